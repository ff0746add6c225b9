package simulate

import (
	"echo9/internal/cut"
	"echo9/tokens"
)

type msgKind uint8

const (
	msgAsk msgKind = iota // client to server
	msgReturn
	msgCommit
	msgRenew
	msgSession
	msgReclaim
	msgReclaimed
	msgPost
	msgGrant // server to client
	msgReclaimGrant
	msgDenied
	msgRecall
	msgCommitted
	msgRefused
	msgRenewed
	msgResumed
	msgCompleted
)

var msgNames = [...]string{"Tgrant", "Treturn", "Tcommit", "Trenew", "Tsession", "Tgrant (reclaim)", "Tgrant (complete)", "Trecall",
	"Rgrant", "Rgrant (reclaim)", "Rlerror", "Rrecall", "Rcommit", "Rcommit (refused)", "Rrenew", "Rsession", "Rgrant (complete)"}

func (k msgKind) String() string { return msgNames[k] }

// message is one of either direction. Replies carry the time at which the request was sent.
type message struct {
	kind    msgKind
	tag     int
	sent    int64
	lease   int64
	conn    *conn
	session sid
	told    bool // the first after Rsession

	elems   []tokens.Elem
	reclaim []reclaim
	changed []bool
	toks    []tokens.Token
	vals    []object
	recalls []tokens.Recall
	ret     tokens.HolderOutput

	cut     uint64
	updates []*update
	records []cut.Record
	fence   []tokens.Held

	epoch uint64
	gen   tokens.Gen
	lost  []tokens.Lost
	begun bool // a new session
}

// conn is a connection: two FIFOs.
type conn struct {
	client     *client
	session    sid
	c2s, s2c   []message
	broken     bool // nothing more is put on it
	resumeSent int64
	posted     int // Trecalls, by its client
}

func (cn *conn) toServer(mg message) {
	if !cn.broken {
		cn.c2s = append(cn.c2s, mg)
	}
}

func (cn *conn) toClient(mg message) {
	if !cn.broken {
		cn.s2c = append(cn.s2c, mg)
	}
}
