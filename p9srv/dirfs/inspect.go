package dirfs

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"echo9/internal/cut"
	"echo9/p9srv/journal"
	"echo9/p9srv/stable"

	"golang.org/x/sys/unix"
)

// Inspection is what the private directory of an export that nobody serves holds.
type Inspection struct {
	Dir   string `json:"dir"`
	State string `json:"state"`
	// Log is the log of cuts as it lies on the disk; nil: there is none.
	Log *journal.Report `json:"log,omitempty"`
	// Cuts are those in the log.
	Cuts []CutInfo `json:"cuts,omitempty"`
	// Lost are cuts that lie behind damage of the log: ending it there gives them up.
	Lost []CutInfo `json:"lost,omitempty"`
	// ToBind, ToSet and ToMake are how many names and objects the next start brings to what the log says, and
	// how many it makes anew; Left is what it leaves alone, since somebody else has changed it.
	ToBind int      `json:"to_bind"`
	ToSet  int      `json:"to_set"`
	ToMake int      `json:"to_make"`
	Left   []string `json:"left,omitempty"`
	// Garbage are private files that the next start removes, as far as the log does not need them; Found what a recovery kept.
	Garbage []string `json:"garbage,omitempty"`
	Found   []string `json:"found,omitempty"`
	// Sessions are those that may be resumed at the next start; Kept is how many objects without a name live on for them.
	Sessions int `json:"sessions"`
	Kept     int `json:"kept"`
	// Rows is how many ids the table has; Dead are those whose object is gone.
	Rows int      `json:"rows"`
	Dead []uint64 `json:"dead,omitempty"`
}

// CutInfo is a cut in the log.
type CutInfo struct {
	LSN    journal.LSN `json:"lsn"`
	Client string      `json:"client"`
	Number uint64      `json:"number"`
	Time   time.Time   `json:"time"`
	State  string      `json:"state"` // applied, under way or refused
	Names  []string    `json:"names"` // what it binds and unbinds
}

// Clean says whether there is nothing to do. Rows of objects that are gone do no harm.
func (i *Inspection) Clean() bool {
	return (i.Log == nil || i.Log.Damage == nil) && len(i.Cuts) == 0 && len(i.Garbage) == 0
}

// ErrNeverServed is the error of a directory that has no private directory.
var ErrNeverServed = errors.New("it was never served: it has no private directory")

// Inspect looks at the private directory of an export without changing anything in it. It takes the
// locks of a server, and fails while one lives.
func Inspect(dir string, opt Options) (*Inspection, error) {
	opt.ReadOnly = false
	if opt.State == "" {
		if _, err := os.Lstat(filepath.Join(dir, privateName)); errors.Is(err, os.ErrNotExist) {
			if _, err := os.Stat(dir); err != nil {
				return nil, err
			}
			return nil, fmt.Errorf("%s: %w", dir, ErrNeverServed)
		}
	}
	fs, err := prepare(dir, opt)
	if err != nil {
		return nil, err
	}
	defer fs.Close()
	if err := fs.openHost(); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", dir, err)
	}
	if fs.state, err = openState(fs.dir, opt.State, fs.mountFD, fs.dev); err != nil {
		return nil, err
	}
	fs.ids = newIDTable(fs.step)
	table, err := os.ReadFile(fs.state.path("ids"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	fs.ids.replay(table)
	if err := fs.openRoot(); err != nil {
		return nil, err
	}
	i := &Inspection{Dir: fs.dir, State: fs.state.dir}
	if err := i.inspectLog(fs); err != nil {
		return nil, err
	}
	return i, i.inspectRest(fs)
}

func (i *Inspection) inspectLog(fs *FS) error {
	if err := unix.Faccessat(fs.state.fd, "log", unix.F_OK, 0); err != nil {
		return nil
	}
	var err error
	if i.Log, err = journal.Check(fs.state.path("")); err != nil {
		return err
	}
	remains, err := journal.Salvage(fs.state.path(""))
	if err != nil {
		return err
	}
	i.Log.Damage = remains.Damage
	r := &recovery{fs: fs, entries: remains.Entries}
	defer r.close()
	r.plan = journal.Reduce(r.entries)
	i.Cuts = r.infos(r.plan)
	i.Lost = r.infos(journal.Reduce(remains.Beyond))
	if len(i.Cuts) == 0 {
		return nil
	}
	if err := r.look(); err != nil {
		return err
	}
	w := r.plan.Resolve(r.seen)
	i.ToBind, i.ToSet, i.ToMake = len(w.Bind), len(w.Set), len(w.Make)
	for _, l := range w.Left {
		i.Left = append(i.Left, r.explain(l))
	}
	return nil
}

// infos tells of the cuts of a plan.
func (r *recovery) infos(p *journal.Plan) []CutInfo {
	var out []CutInfo
	for _, c := range p.Cuts {
		info := CutInfo{
			LSN: c.LSN, Client: fmt.Sprintf("%x", c.Cut.Client), Number: c.Cut.Number, Time: time.Unix(0, c.Cut.Time), State: "under way",
		}
		switch {
		case c.Aborted:
			info.State = "refused"
		case c.Noted:
			info.State = "applied"
		}
		for i := range c.Cut.Records {
			rec := &c.Cut.Records[i]
			if rec.Kind == cut.Bind {
				info.Names = append(info.Names, r.path(rec.Dir, rec.Name))
			}
		}
		out = append(out, info)
	}
	return out
}

func (i *Inspection) inspectRest(fs *FS) error {
	r := &recovery{fs: fs}
	b, err := os.ReadFile(fs.state.path(sessionsName))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	known, _ := stable.Read(b)
	i.Sessions = len(known.Sessions)
	kept := map[string]bool{}
	for _, s := range known.Sessions {
		for id := range s.Kept {
			kept[strconv.FormatUint(id, 10)] = true
		}
	}
	for _, sub := range []struct {
		name string
		fd   int
	}{{"tmp", fs.state.tmp}, {"orphans", fs.state.orphans}} {
		names, err := r.list(sub.fd)
		if err != nil {
			return fmt.Errorf("list %s: %w", sub.name, err)
		}
		for _, name := range names {
			if sub.fd == fs.state.orphans && kept[name] {
				i.Kept++
				continue
			}
			i.Garbage = append(i.Garbage, filepath.Join(sub.name, name))
		}
	}
	found, err := os.ReadDir(fs.state.path("found"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, e := range found {
		i.Found = append(i.Found, filepath.Join(fs.state.dir, "found", e.Name()))
	}
	i.Rows = len(fs.ids.rows)
	if !fs.openHandles {
		return nil // nobody can tell
	}
	for id, row := range fs.ids.rows {
		if row.handle == "" {
			continue
		}
		fd, err := fs.openHandle(row.handle)
		if err == nil {
			var st unix.Statx_t
			err = statFD(fd, &st)
			unix.Close(fd)
			if err == nil && st.Nlink > 0 {
				continue
			}
		}
		i.Dead = append(i.Dead, id)
	}
	slices.Sort(i.Dead)
	return nil
}

// Repair does what can be done about what Inspect found: a damaged log ends before the damage, its files being kept; the tree
// is brought to what the log says; what is of no use is removed. It gives the name under which a damaged log is kept.
func Repair(dir string, opt Options, found *Inspection) (aside string, err error) {
	if found.Log != nil && found.Log.Damage != nil {
		aside = "damaged-" + time.Now().UTC().Format("20060102-150405")
		if err := cutLog(dir, opt, aside); err != nil {
			return "", fmt.Errorf("end the log before the damage: %w", err)
		}
		aside = filepath.Join(found.State, aside)
	}
	fs, err := Open(dir, opt)
	if err != nil {
		return aside, err
	}
	for _, id := range found.Dead {
		fs.ids.remove(id)
	}
	return aside, fs.Close()
}

// cutLog puts what of the log lies before the damage in its place.
func cutLog(dir string, opt Options, aside string) error {
	fs, err := prepare(dir, opt)
	if err != nil {
		return err
	}
	defer fs.Close()
	if err := fs.openHost(); err != nil {
		return err
	}
	if fs.state, err = openState(fs.dir, opt.State, fs.mountFD, fs.dev); err != nil {
		return err
	}
	remains, err := journal.Salvage(fs.state.path(""))
	if err != nil {
		return err
	}
	return journal.Rewrite(fs.state.fd, remains.Entries, aside)
}
