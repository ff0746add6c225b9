package main

import (
	"fmt"
	"math"
	"strings"
)

// reading says what the tables show, and where the default loses. All of its numbers are from them.
func (r *result) reading(p func(string, ...any)) {
	row := func(w workResult, name string) workRow { return w.Rows[at(name)] }
	p("## In short")
	p("")
	messages := func(k cost) float64 { return float64(k.Messages) }
	p("- **Sync and close against writing behind.** The default sent %s of the messages of sync, and %s of those of close, depending on the work; the programs had %s of sync's round",
		r.ratios("sync", messages), r.ratios("close", messages), r.ratios("sync", func(k cost) float64 { return float64(k.Rounds) }))
	p("  trips to wait for, and with 1 ms between the machines took %s of its time. Bytes are less of a difference (%s of sync's): data go once in any case. The gain is smallest",
		r.ratiosAt(1, "sync", func(k cost) float64 { return k.Seconds }), r.ratios("sync", func(k cost) float64 { return float64(k.Sent) }))
	p("  where a program computes (a build) or fsyncs, and largest where it makes many small changes.")
	var flushed []string
	for _, w := range r.Works {
		flushed = append(flushed, fmt.Sprintf("%s: %s, %s, %s", title(w.Name), count(row(w, "total").Recall.Records), count(row(w, "causal").Recall.Records), count(row(w, "object").Recall.Records)))
	}
	p("- **Total and causal against object.** What the work costs hardly depends on the order. What differs is what somebody else's look at one file makes the writer send first. Final values (records)")
	p("  flushed under total, causal, object: %s.", strings.Join(flushed, "; "))
	other, same, old := r.Sweeps[0], r.Sweeps[1], r.Sweeps[2]
	p("- **Among k unsent files in other directories** object flushes %s; total flushes %s, and causal %s (k from %s to %s).",
		span(other, "object"), span(other, "total"), span(other, "causal"), count(r.Config.K[0]), count(r.Config.K[len(r.Config.K)-1]))
	p("- **In the same directory it is not flat**: object flushes %s. New names in one directory are changes of one object, the directory, and so in one order. Files that had their names before do not change it:", span(same, "object"))
	p("  with them it flushes %s.", span(old, "object"))
	drain := r.Drains[at("object")]
	mid, worst := middle(drain), drain.Flushes[len(drain.Flushes)-1]
	log := r.Drains[at("total")]
	slow := log.Flushes[len(log.Flushes)-1]
	p("- **While %d MiB are draining**, a look at a file just made was answered after %s, %s having been sent until then (median; with %s pending), and the slowest after %s and %s; under total",
		r.Config.Drain, milliseconds(mid.Seconds), size(mid.Bytes), size(mid.PendingBytes), milliseconds(worst.Seconds), size(worst.Bytes))
	p("  the slowest took %s and %s (what it flushes is out of the way of the next, which makes its median look good). A recall does not wait for the backlog, but for the cuts of write-back that are on their",
		milliseconds(slow.Seconds), size(slow.Bytes))
	p("  way; and a look at a new file recalls twice, its directory and itself, so that others go between, and what the link holds comes on top.")
	p("")
	p("### Where the default does not win")
	p("")
	for _, line := range r.losses() {
		p("- %s", line)
	}
	p("")
}

// middle is the median of looks.
func middle(r sweepRow) flush { return r.Flushes[len(r.Flushes)/2] }

// at is the place of a policy's row.
func at(name string) int {
	for i, q := range policies {
		if q.name == name {
			return i
		}
	}
	panic("compare: there is no policy " + name)
}

// ratios gives the range of the default's costs as parts of another policy's, over all works.
func (r *result) ratios(other string, of func(cost) float64) string { return r.ratiosAt(0, other, of) }

func (r *result) ratiosAt(rtt int, other string, of func(cost) float64) string {
	lo, hi := math.Inf(1), 0.0
	for _, w := range r.Works {
		v := 100 * of(w.Rows[at("object")].Costs[rtt]) / of(w.Rows[at(other)].Costs[rtt])
		lo, hi = min(lo, v), max(hi, v)
	}
	return percent(lo) + " to " + percent(hi) + " %"
}

// span says how many updates a policy flushed in a sweep, from the least k to the most.
func span(s sweep, name string) string {
	fs := s.Rows[at(name)].Flushes
	first, last := fs[0].Updates, fs[len(fs)-1].Updates
	if first == last {
		return fmt.Sprintf("%s updates, whatever k is", count(first))
	}
	return fmt.Sprintf("%s to %s updates", count(first), count(last))
}

// measures are what the policies are compared by, work by work: less is better. The default loses when
// another takes no more than the part clearly of it: times differ from run to run.
var measures = []struct {
	name    string
	of      func(workRow) float64
	show    func(float64) string
	clearly float64
	least   float64 // differences that are no more do not count
}{
	{"messages", func(w workRow) float64 { return float64(w.Costs[0].Messages) }, integer, 0.9, 3},
	{"round trips", func(w workRow) float64 { return float64(w.Costs[0].Rounds) }, integer, 0.9, 3},
	{"bytes sent", func(w workRow) float64 { return float64(w.Costs[0].Sent) }, bytesOf, 0.9, 4096},
	{"records", func(w workRow) float64 { return float64(w.Costs[0].Records) }, integer, 0.9, 3},
	{"time with 0 ms", func(w workRow) float64 { return w.Costs[0].Seconds }, seconds, 0.8, 0.1},
	{"time with 1 ms", func(w workRow) float64 { return w.Costs[1].Seconds }, seconds, 0.8, 0.1},
}

func integer(v float64) string { return count(int64(v)) }
func bytesOf(v float64) string { return size(int64(v)) }
func seconds(v float64) string { return fmt.Sprintf("%.2f s", v) }

// losses are the default's: where another policy is clearly better.
func (r *result) losses() (lines []string) {
	object := at("object")
	paid, behind := 0.0, 0.0
	for _, w := range r.Works {
		paid = max(paid, w.Rows[at("sync")].Recall.Seconds, w.Rows[at("close")].Recall.Seconds)
		behind = max(behind, w.Rows[object].Recall.Seconds)
	}
	lines = append(lines, fmt.Sprintf("Under sync and close nothing is left to be flushed when somebody else looks: the slowest look after a work took %s there, and %s with the default. They have paid before.",
		milliseconds(paid), milliseconds(behind)))
	for _, w := range r.Works {
		if w.Name != "git" {
			continue
		}
		log, mine := w.Rows[at("total")].Recall, w.Rows[object].Recall
		if log.Records > mine.Records {
			lines = append(lines, fmt.Sprintf("Object flushes less because it orders less. Git's branch is a file in one directory, what it names are files in others, and nothing but `fsync` or a barrier puts the branch last:"+
				" who looks at it makes the client send %s records under total and %s under object; and after a crash of the client it may name, under object, a commit that is lost.", count(log.Records), count(mine.Records)))
		}
	}
	lines = append(lines, "What is written behind is lost when the client dies, up to 5 seconds of it; what sync has answered is not. The tables say nothing of that.")
	for _, w := range r.Works {
		var better []string
		for _, m := range measures {
			best := object
			for i := range w.Rows {
				if m.of(w.Rows[i]) < m.of(w.Rows[best]) {
					best = i
				}
			}
			v, mine := m.of(w.Rows[best]), m.of(w.Rows[object])
			if v <= m.clearly*mine && mine-v > m.least {
				better = append(better, fmt.Sprintf("%s: %s %s, object %s", m.name, w.Rows[best].Policy, m.show(v), m.show(mine)))
			}
		}
		if len(better) > 0 {
			lines = append(lines, title(w.Name)+": "+strings.Join(better, "; ")+".")
		}
	}
	return lines
}
