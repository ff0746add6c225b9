package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// result is everything that was measured: docs/comparison.json, from which the page and the plots are made.
type result struct {
	Where  whereabouts  `json:"where"`
	Config config       `json:"config"`
	Works  []workResult `json:"works"`
	Sweeps []sweep      `json:"sweeps"`
	Drains []sweepRow   `json:"drains"` // a flush a look
}

type whereabouts struct {
	Commit     string `json:"commit"`
	Date       string `json:"date"`
	Go         string `json:"go"`
	Kernel     string `json:"kernel"`
	CPUs       int    `json:"cpus"`
	LoadBefore string `json:"load_before"`
	LoadAfter  string `json:"load_after"`
}

type workResult struct {
	Name   string    `json:"name"`
	What   string    `json:"what"`
	Target string    `json:"target"`
	Rows   []workRow `json:"rows"` // one a policy
}

type workRow struct {
	Policy string `json:"policy"`
	Costs  []cost `json:"costs"` // one of each of rtts
	Recall flush  `json:"recall"`
}

type sweep struct {
	Place string     `json:"place"`
	What  string     `json:"what"`
	Rows  []sweepRow `json:"rows"` // one a policy
}

type sweepRow struct {
	Policy  string  `json:"policy"`
	Flushes []flush `json:"flushes"` // one of each k that the policy is measured with
}

func load(docs string) (*result, error) {
	text, err := os.ReadFile(filepath.Join(docs, "comparison.json"))
	if err != nil {
		return nil, err
	}
	r := new(result)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("comparison.json: %w", err)
	}
	return r, r.check()
}

// check says whether r has a row of each thing that is measured today, in that order.
func (r *result) check() error {
	var have, want []string
	for _, w := range r.Works {
		for _, row := range w.Rows {
			have = append(have, fmt.Sprint(w.Name, row.Policy, len(row.Costs)))
		}
	}
	for _, s := range append(r.Sweeps, sweep{"drain", "", r.Drains}) {
		for _, row := range s.Rows {
			have = append(have, fmt.Sprint(s.Place, row.Policy, len(row.Flushes)))
		}
	}
	for _, w := range works {
		for _, p := range policies {
			want = append(want, fmt.Sprint(w.name, p.name, len(rtts)))
		}
	}
	for _, s := range append(places[:len(places):len(places)], place{name: "drain"}) {
		for _, p := range policies {
			n := len(p.sweeps(r.Config.K))
			if s.name == "drain" {
				n = looks
			}
			want = append(want, fmt.Sprint(s.name, p.name, n))
		}
	}
	if h, w := strings.Join(have, "\n"), strings.Join(want, "\n"); h != w {
		return fmt.Errorf("the results are not those of this program; they have\n%s\nand not\n%s", h, w)
	}
	return nil
}

// write makes the page and the plots.
func (r *result) write(docs string) error {
	if err := r.check(); err != nil {
		return err
	}
	files, err := r.files()
	if err != nil {
		return err
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(docs, name), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// files are the page and the plots, by name.
func (r *result) files() (map[string][]byte, error) {
	recalls, err := r.recallPlot()
	if err != nil {
		return nil, err
	}
	costs, err := r.costPlot()
	if err != nil {
		return nil, err
	}
	return map[string][]byte{
		"comparison.md":          []byte(r.markdown()),
		"comparison-recalls.svg": recalls,
		"comparison-costs.svg":   costs,
	}, nil
}

func load1() string {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	one, _, _ := strings.Cut(string(text), " ")
	return one
}

func cpus() int { return runtime.NumCPU() }
