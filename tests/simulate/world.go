package simulate

import "fmt"

const lease = 1000

// Config says what worlds are like.
type Config struct {
	Clients int // 2 to 9
	Steps   int // until the faults end
	Faults  bool
	Broken  string // a mechanism that is broken, see Mutants
}

// world is everything there is.
type world struct {
	cfg     Config
	now     int64
	srv     server
	clients []*client // those of the present; killed ones are in ghosts
	ghosts  []*client
	born    int

	updates []*update
	live    []*update // neither applied nor lost
	ids     []id
	edited  map[id]uint64 // on the host, after which epoch
	editor  map[id]int    // and by which update

	counts Counts
	bad    string
	talk   bool
	story  []string
}

// Counts is what happened in a world.
type Counts struct {
	Steps, Updates, Reads, Lost, Unknown      int
	Breaks, Stops, Kills, Crashes, Edits, End int
}

func newWorld(cfg Config) *world {
	w := &world{cfg: cfg, srv: server{tree: newTree(), known: map[sid]*known{}}, edited: map[id]uint64{}, editor: map[id]int{}, ids: []id{dirA, dirB, firstFile, firstFile + 1, firstFile + 2}}
	for i := range cfg.Clients {
		w.clients = append(w.clients, w.newClient(i))
	}
	w.start()
	for i, c := range w.clients {
		w.dial(c)
		w.try(step{kind: stTake, who: uint8(i)})
		w.receive(c)
	}
	return w
}

func (w *world) broken(what string) bool { return w.cfg.Broken == what }

func (w *world) say(format string, args ...any) {
	if w.talk {
		w.story = append(w.story, fmt.Sprintf("%6d  ", w.now)+fmt.Sprintf(format, args...))
	}
}

func (w *world) fail(format string, args ...any) {
	if w.bad == "" {
		w.bad = fmt.Sprintf(format, args...)
		w.say("%s", w.bad)
	}
}
