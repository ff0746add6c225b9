package main

import (
	"bytes"
	"fmt"
	"image/color"
	"slices"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colours of the policies; the default's is the strong one.
var colours = map[string]color.Color{
	"sync":   color.RGBA{0x55, 0x55, 0x55, 0xff},
	"close":  color.RGBA{0x99, 0x99, 0x99, 0xff},
	"total":  color.RGBA{0xd9, 0x5f, 0x02, 0xff},
	"causal": color.RGBA{0xe6, 0xab, 0x02, 0xff},
	"object": color.RGBA{0x1b, 0x6c, 0xa8, 0xff},
}

// recallPlot draws what one look flushes among k unsent files, a panel a place.
func (r *result) recallPlot() ([]byte, error) {
	var panels []*plot.Plot
	for _, s := range r.Sweeps {
		p := newPanel("k files in " + s.Place)
		p.X.Label.Text = "k"
		p.Y.Label.Text = "updates flushed"
		p.X.Scale, p.Y.Scale = plot.LogScale{}, plot.LogScale{}
		p.X.Tick.Marker, p.Y.Tick.Marker = decades{}, decades{}
		p.X.Min, p.X.Max = float64(r.Config.K[0]), float64(slices.Max(r.Config.K))
		p.Y.Min, p.Y.Max = 1, max(10, 2.5*p.X.Max)
		p.Legend.Top, p.Legend.Left = true, true
		p.Add(plotter.NewGrid())
		for _, row := range s.Rows {
			var xys plotter.XYs
			for j, f := range row.Flushes {
				if f.Updates > 0 {
					xys = append(xys, plotter.XY{X: float64(r.Config.K[j]), Y: float64(f.Updates)})
				}
			}
			if len(xys) == 0 {
				continue // sync and close have nothing to flush
			}
			line, points, err := plotter.NewLinePoints(xys)
			if err != nil {
				return nil, fmt.Errorf("a plot's line: %w", err)
			}
			line.Color, points.Color = colours[row.Policy], colours[row.Policy]
			line.Width, points.Radius = vg.Points(2), vg.Points(3)
			points.Shape = draw.CircleGlyph{}
			switch row.Policy {
			case "total": // the others lie on it at times
				line.Width, points.Radius = vg.Points(6), vg.Points(5)
			case "causal":
				line.Dashes = []vg.Length{vg.Points(6), vg.Points(4)}
			}
			p.Add(line, points)
			p.Legend.Add(row.Policy, line, points)
		}
		panels = append(panels, p)
	}
	return drawn(panels, 1, len(panels), 13*vg.Inch, 4.4*vg.Inch)
}

// costPlot draws messages and time of each work as parts of what sync takes.
func (r *result) costPlot() ([]byte, error) {
	messages := func(row workRow) float64 { return float64(row.Costs[0].Messages) }
	times := func(row workRow) float64 { return row.Costs[1].Seconds }
	var panels []*plot.Plot
	for _, m := range []struct {
		title string
		of    func(workRow) float64
	}{
		{"messages, % of those under sync", messages},
		{"time of the programs with 1 ms round trip, % of that under sync", times},
	} {
		p := newPanel(m.title)
		p.Y.Min, p.Y.Max = 0, 115
		p.Legend.Top = true
		p.Legend.YOffs = vg.Points(24)
		p.Legend.Padding = vg.Points(2)
		grid := plotter.NewGrid()
		grid.Vertical.Width = 0
		p.Add(grid)
		var names []string
		for _, w := range r.Works {
			names = append(names, title(w.Name))
		}
		p.NominalX(names...)
		shown := policies[1:]
		for i, q := range shown {
			var values plotter.Values
			var labels plotter.XYLabels
			for x, w := range r.Works {
				v := 100 * m.of(w.Rows[i+1]) / m.of(w.Rows[0])
				values = append(values, v)
				labels.XYs = append(labels.XYs, plotter.XY{X: float64(x), Y: v})
				labels.Labels = append(labels.Labels, percent(v))
				p.Y.Max = max(p.Y.Max, 1.1*v)
			}
			bars, err := plotter.NewBarChart(values, vg.Points(26))
			if err != nil {
				return nil, fmt.Errorf("a plot's bars: %w", err)
			}
			bars.Color, bars.LineStyle.Width = colours[q.name], 0
			bars.Offset = vg.Points(28) * vg.Length(float64(i)-float64(len(shown)-1)/2)
			over, err := plotter.NewLabels(labels)
			if err != nil {
				return nil, fmt.Errorf("a plot's labels: %w", err)
			}
			over.Offset = vg.Point{X: bars.Offset, Y: vg.Points(2)}
			for j := range over.TextStyle {
				over.TextStyle[j].XAlign = text.XCenter
				over.TextStyle[j].Font.Size = vg.Points(9)
			}
			p.Add(bars, over)
			p.Legend.Add(q.name+"   ", bars)
		}
		panels = append(panels, p)
	}
	return drawn(panels, 2, 1, 12*vg.Inch, 7*vg.Inch)
}

func percent(v float64) string {
	if v < 9.95 {
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}

func newPanel(title string) *plot.Plot {
	plot.DefaultFont = font.Font{Typeface: "Liberation", Variant: "Sans"}
	p := plot.New()
	p.Title.Text = title
	p.Title.TextStyle.Font.Size = vg.Points(13)
	p.Title.Padding = vg.Points(6)
	return p
}

// decades are the ticks 1, 10, 100, …
type decades struct{}

func (decades) Ticks(lo, hi float64) (ticks []plot.Tick) {
	for v := 1; float64(v) <= hi; v *= 10 {
		if float64(v) >= lo {
			ticks = append(ticks, plot.Tick{Value: float64(v), Label: count(v)})
		}
	}
	return ticks
}

// drawn gives panels in rows and columns as SVG.
func drawn(panels []*plot.Plot, rows, cols int, width, height vg.Length) ([]byte, error) {
	c := vgsvg.New(width, height)
	dc := draw.New(c)
	dc.SetColor(color.White)
	dc.Fill(dc.Rectangle.Path())
	gap := vg.Points(14)
	tiles := draw.Tiles{Rows: rows, Cols: cols, PadX: gap, PadY: gap, PadTop: gap, PadBottom: gap / 2, PadLeft: gap / 2, PadRight: gap}
	for i, p := range panels {
		p.Draw(tiles.At(dc, i%cols, i/cols))
	}
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("a plot: %w", err)
	}
	// Where that font is not there, another like it.
	const family = "font-family:Liberation Sans"
	return bytes.ReplaceAll(b.Bytes(), []byte(family), []byte(family+",Arial,Helvetica,sans-serif")), nil
}
