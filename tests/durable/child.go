package durable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
)

// Where a guest's clients are told what to do, and where they tell what is durable.
const (
	childAddr   = "ECHO9_DURABLE_ADDR"
	childSeed   = "ECHO9_DURABLE_SEED"
	childFrom   = "ECHO9_DURABLE_FROM" // rounds of each client that are there, with commas
	childRecord = "ECHO9_DURABLE_RECORD"
)

// child runs the clients in a process of their own until it is killed.
func child() error {
	seed, err := strconv.ParseUint(os.Getenv(childSeed), 10, 64)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for c, s := range strings.Split(os.Getenv(childFrom), ",") {
		from, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return err
		}
		record, err := os.OpenFile(fmt.Sprint(os.Getenv(childRecord), c), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if err != nil {
			return err
		}
		w := writer{addr: os.Getenv(childAddr), seed: seed, client: uint64(c), from: from}
		wg.Go(func() {
			errs <- w.run(context.Background(), func(n uint64) error {
				if _, err := fmt.Fprintln(record, n); err != nil {
					return err
				}
				return record.Sync() // past the guest's kernel
			})
		})
	}
	wg.Wait()
	close(errs)
	var all []error
	for err := range errs {
		all = append(all, err)
	}
	return errors.Join(all...)
}

// recorded reads what client c told last.
func recorded(record string, c int) (uint64, error) {
	b, err := os.ReadFile(fmt.Sprint(record, c))
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	text := string(b)
	last := text[:strings.LastIndexByte(text, '\n')+1] // a torn line tells nothing
	fields := strings.Fields(last)
	if len(fields) == 0 {
		return 0, nil
	}
	return strconv.ParseUint(fields[len(fields)-1], 10, 64)
}
