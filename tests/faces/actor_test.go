package faces
func actorMain(args []string) error { return nil }
