package wire

// The number and the trace of each message.

func (*Rlerror) Type() uint8      { return TypeRlerror }
func (*Tstatfs) Type() uint8      { return TypeTstatfs }
func (*Rstatfs) Type() uint8      { return TypeRstatfs }
func (*Tlopen) Type() uint8       { return TypeTlopen }
func (*Rlopen) Type() uint8       { return TypeRlopen }
func (*Tlcreate) Type() uint8     { return TypeTlcreate }
func (*Rlcreate) Type() uint8     { return TypeRlcreate }
func (*Tsymlink) Type() uint8     { return TypeTsymlink }
func (*Rsymlink) Type() uint8     { return TypeRsymlink }
func (*Tmknod) Type() uint8       { return TypeTmknod }
func (*Rmknod) Type() uint8       { return TypeRmknod }
func (*Trename) Type() uint8      { return TypeTrename }
func (*Rrename) Type() uint8      { return TypeRrename }
func (*Treadlink) Type() uint8    { return TypeTreadlink }
func (*Rreadlink) Type() uint8    { return TypeRreadlink }
func (*Tgetattr) Type() uint8     { return TypeTgetattr }
func (*Rgetattr) Type() uint8     { return TypeRgetattr }
func (*Tsetattr) Type() uint8     { return TypeTsetattr }
func (*Rsetattr) Type() uint8     { return TypeRsetattr }
func (*Txattrwalk) Type() uint8   { return TypeTxattrwalk }
func (*Rxattrwalk) Type() uint8   { return TypeRxattrwalk }
func (*Txattrcreate) Type() uint8 { return TypeTxattrcreate }
func (*Rxattrcreate) Type() uint8 { return TypeRxattrcreate }
func (*Treaddir) Type() uint8     { return TypeTreaddir }
func (*Rreaddir) Type() uint8     { return TypeRreaddir }
func (*Tfsync) Type() uint8       { return TypeTfsync }
func (*Rfsync) Type() uint8       { return TypeRfsync }
func (*Tlock) Type() uint8        { return TypeTlock }
func (*Rlock) Type() uint8        { return TypeRlock }
func (*Tgetlock) Type() uint8     { return TypeTgetlock }
func (*Rgetlock) Type() uint8     { return TypeRgetlock }
func (*Tlink) Type() uint8        { return TypeTlink }
func (*Rlink) Type() uint8        { return TypeRlink }
func (*Tmkdir) Type() uint8       { return TypeTmkdir }
func (*Rmkdir) Type() uint8       { return TypeRmkdir }
func (*Trenameat) Type() uint8    { return TypeTrenameat }
func (*Rrenameat) Type() uint8    { return TypeRrenameat }
func (*Tunlinkat) Type() uint8    { return TypeTunlinkat }
func (*Runlinkat) Type() uint8    { return TypeRunlinkat }
func (*Tversion) Type() uint8     { return TypeTversion }
func (*Rversion) Type() uint8     { return TypeRversion }
func (*Tauth) Type() uint8        { return TypeTauth }
func (*Rauth) Type() uint8        { return TypeRauth }
func (*Tattach) Type() uint8      { return TypeTattach }
func (*Rattach) Type() uint8      { return TypeRattach }
func (*Tflush) Type() uint8       { return TypeTflush }
func (*Rflush) Type() uint8       { return TypeRflush }
func (*Twalk) Type() uint8        { return TypeTwalk }
func (*Rwalk) Type() uint8        { return TypeRwalk }
func (*Tread) Type() uint8        { return TypeTread }
func (*Rread) Type() uint8        { return TypeRread }
func (*Twrite) Type() uint8       { return TypeTwrite }
func (*Rwrite) Type() uint8       { return TypeRwrite }
func (*Tclunk) Type() uint8       { return TypeTclunk }
func (*Rclunk) Type() uint8       { return TypeRclunk }
func (*Tremove) Type() uint8      { return TypeTremove }
func (*Rremove) Type() uint8      { return TypeRremove }
func (*Tflushf) Type() uint8      { return TypeTflushf }
func (*Rflushf) Type() uint8      { return TypeRflushf }
func (*Twalkgetattr) Type() uint8 { return TypeTwalkgetattr }
func (*Rwalkgetattr) Type() uint8 { return TypeRwalkgetattr }
func (*Tucreate) Type() uint8     { return TypeTucreate }
func (*Rucreate) Type() uint8     { return TypeRucreate }
func (*Tumkdir) Type() uint8      { return TypeTumkdir }
func (*Rumkdir) Type() uint8      { return TypeRumkdir }
func (*Tumknod) Type() uint8      { return TypeTumknod }
func (*Rumknod) Type() uint8      { return TypeRumknod }
func (*Tusymlink) Type() uint8    { return TypeTusymlink }
func (*Rusymlink) Type() uint8    { return TypeRusymlink }
func (*Tsession) Type() uint8     { return TypeTsession }
func (*Rsession) Type() uint8     { return TypeRsession }
func (*Tgrant) Type() uint8       { return TypeTgrant }
func (*Rgrant) Type() uint8       { return TypeRgrant }
func (*Trecall) Type() uint8      { return TypeTrecall }
func (*Rrecall) Type() uint8      { return TypeRrecall }
func (*Treturn) Type() uint8      { return TypeTreturn }
func (*Rreturn) Type() uint8      { return TypeRreturn }
func (*Tcommit) Type() uint8      { return TypeTcommit }
func (*Rcommit) Type() uint8      { return TypeRcommit }
func (*Treaddirplus) Type() uint8 { return TypeTreaddirplus }
func (*Rreaddirplus) Type() uint8 { return TypeRreaddirplus }
func (*Trenew) Type() uint8       { return TypeTrenew }
func (*Rrenew) Type() uint8       { return TypeRrenew }
func (*Tbind) Type() uint8        { return TypeTbind }
func (*Rbind) Type() uint8        { return TypeRbind }

func (m *Rlerror) String() string      { return traceMessage(m) }
func (m *Tstatfs) String() string      { return traceMessage(m) }
func (m *Rstatfs) String() string      { return traceMessage(m) }
func (m *Tlopen) String() string       { return traceMessage(m) }
func (m *Rlopen) String() string       { return traceMessage(m) }
func (m *Tlcreate) String() string     { return traceMessage(m) }
func (m *Rlcreate) String() string     { return traceMessage(m) }
func (m *Tsymlink) String() string     { return traceMessage(m) }
func (m *Rsymlink) String() string     { return traceMessage(m) }
func (m *Tmknod) String() string       { return traceMessage(m) }
func (m *Rmknod) String() string       { return traceMessage(m) }
func (m *Trename) String() string      { return traceMessage(m) }
func (m *Rrename) String() string      { return traceMessage(m) }
func (m *Treadlink) String() string    { return traceMessage(m) }
func (m *Rreadlink) String() string    { return traceMessage(m) }
func (m *Tgetattr) String() string     { return traceMessage(m) }
func (m *Rgetattr) String() string     { return traceMessage(m) }
func (m *Tsetattr) String() string     { return traceMessage(m) }
func (m *Rsetattr) String() string     { return traceMessage(m) }
func (m *Txattrwalk) String() string   { return traceMessage(m) }
func (m *Rxattrwalk) String() string   { return traceMessage(m) }
func (m *Txattrcreate) String() string { return traceMessage(m) }
func (m *Rxattrcreate) String() string { return traceMessage(m) }
func (m *Treaddir) String() string     { return traceMessage(m) }
func (m *Rreaddir) String() string     { return traceMessage(m) }
func (m *Tfsync) String() string       { return traceMessage(m) }
func (m *Rfsync) String() string       { return traceMessage(m) }
func (m *Tlock) String() string        { return traceMessage(m) }
func (m *Rlock) String() string        { return traceMessage(m) }
func (m *Tgetlock) String() string     { return traceMessage(m) }
func (m *Rgetlock) String() string     { return traceMessage(m) }
func (m *Tlink) String() string        { return traceMessage(m) }
func (m *Rlink) String() string        { return traceMessage(m) }
func (m *Tmkdir) String() string       { return traceMessage(m) }
func (m *Rmkdir) String() string       { return traceMessage(m) }
func (m *Trenameat) String() string    { return traceMessage(m) }
func (m *Rrenameat) String() string    { return traceMessage(m) }
func (m *Tunlinkat) String() string    { return traceMessage(m) }
func (m *Runlinkat) String() string    { return traceMessage(m) }
func (m *Tversion) String() string     { return traceMessage(m) }
func (m *Rversion) String() string     { return traceMessage(m) }
func (m *Tauth) String() string        { return traceMessage(m) }
func (m *Rauth) String() string        { return traceMessage(m) }
func (m *Tattach) String() string      { return traceMessage(m) }
func (m *Rattach) String() string      { return traceMessage(m) }
func (m *Tflush) String() string       { return traceMessage(m) }
func (m *Rflush) String() string       { return traceMessage(m) }
func (m *Twalk) String() string        { return traceMessage(m) }
func (m *Rwalk) String() string        { return traceMessage(m) }
func (m *Tread) String() string        { return traceMessage(m) }
func (m *Rread) String() string        { return traceMessage(m) }
func (m *Twrite) String() string       { return traceMessage(m) }
func (m *Rwrite) String() string       { return traceMessage(m) }
func (m *Tclunk) String() string       { return traceMessage(m) }
func (m *Rclunk) String() string       { return traceMessage(m) }
func (m *Tremove) String() string      { return traceMessage(m) }
func (m *Rremove) String() string      { return traceMessage(m) }
func (m *Tflushf) String() string      { return traceMessage(m) }
func (m *Rflushf) String() string      { return traceMessage(m) }
func (m *Twalkgetattr) String() string { return traceMessage(m) }
func (m *Rwalkgetattr) String() string { return traceMessage(m) }
func (m *Tucreate) String() string     { return traceMessage(m) }
func (m *Rucreate) String() string     { return traceMessage(m) }
func (m *Tumkdir) String() string      { return traceMessage(m) }
func (m *Rumkdir) String() string      { return traceMessage(m) }
func (m *Tumknod) String() string      { return traceMessage(m) }
func (m *Rumknod) String() string      { return traceMessage(m) }
func (m *Tusymlink) String() string    { return traceMessage(m) }
func (m *Rusymlink) String() string    { return traceMessage(m) }
func (m *Tsession) String() string     { return traceMessage(m) }
func (m *Rsession) String() string     { return traceMessage(m) }
func (m *Tgrant) String() string       { return traceMessage(m) }
func (m *Rgrant) String() string       { return traceMessage(m) }
func (m *Trecall) String() string      { return traceMessage(m) }
func (m *Rrecall) String() string      { return traceMessage(m) }
func (m *Treturn) String() string      { return traceMessage(m) }
func (m *Rreturn) String() string      { return traceMessage(m) }
func (m *Tcommit) String() string      { return traceMessage(m) }
func (m *Rcommit) String() string      { return traceMessage(m) }
func (m *Treaddirplus) String() string { return traceMessage(m) }
func (m *Rreaddirplus) String() string { return traceMessage(m) }
func (m *Trenew) String() string       { return traceMessage(m) }
func (m *Rrenew) String() string       { return traceMessage(m) }
func (m *Tbind) String() string        { return traceMessage(m) }
func (m *Rbind) String() string        { return traceMessage(m) }
