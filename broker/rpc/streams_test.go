package rpc_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/timestamppb"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/daypass-io/daypass/audit"
	"github.com/daypass-io/daypass/broker/rpc"
	"github.com/daypass-io/daypass/clients/sdk"
	"github.com/daypass-io/daypass/cred"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// watching is a stream of revocations as it is told: IDs, and "current" for each confirmation.
type watching struct {
	told chan string
	end  chan error
	stop context.CancelFunc
}

func watch(t *testing.T, c *sdk.ProxyClient) *watching {
	ctx, stop := context.WithCancel(t.Context())
	w := &watching{make(chan string, 1000), make(chan error, 1), stop}
	go func() {
		w.end <- c.WatchRevocations(ctx, func(id cred.GrantID, until time.Time) {
			if until.Before(time.Now()) {
				id += " with an end that is over"
			}
			w.told <- string(id)
		}, func() { w.told <- "current" })
	}()
	return w
}

// next is the next thing that is told, but for confirmations where skip says so.
func (w *watching) next(t *testing.T, skip bool) string {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		select {
		case s := <-w.told:
			if skip && s == "current" {
				continue
			}
			return s
		case err := <-w.end:
			t.Fatalf("the stream ended: %v", err)
		case <-deadline:
			t.Fatal("nothing is told")
		}
	}
}

func (w *world) revokedGrant(t *testing.T, ann *sdk.Client) string {
	t.Helper()
	got, err := ann.Exchange(t.Context(), cred.Request{Target: "orders"})
	must(t, err)
	_, err = ann.Revoke(t.Context(), cred.GrantID(got.Grant.GetId()), "")
	must(t, err)
	return got.Grant.GetId()
}

func TestWatchRevocations(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{Heartbeat: time.Hour}})
	ann := w.member()
	past := w.revokedGrant(t, ann)
	stream := watch(t, w.edge())
	for i, want := range []string{past, "current"} {
		if got := stream.next(t, false); got != want {
			t.Fatalf("told %q at %d, want %q", got, i, want)
		}
	}
	live := w.revokedGrant(t, ann)
	for i, want := range []string{live, "current"} {
		if got := stream.next(t, false); got != want {
			t.Fatalf("told %q at %d, want %q", got, i, want)
		}
	}
	stream.stop()
	if err := <-stream.end; err == nil || cred.KindOf(err) != cred.Unavailable {
		t.Errorf("ended with %v", err)
	}
}

func TestHeartbeats(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{Heartbeat: time.Millisecond}})
	stream := watch(t, w.edge())
	for i := range 5 {
		if got := stream.next(t, false); got != "current" {
			t.Fatalf("told %q at %d", got, i)
		}
	}
	stream.stop()
	<-stream.end
}

// Streams without an end of their own end at Shutdown, which waits for nothing else here.
func TestShutdownEndsStreams(t *testing.T) {
	w := newWorld(t, settings{})
	stream := watch(t, w.edge())
	stream.next(t, false)
	health, err := healthpb.NewHealthClient(w.conn()).Watch(t.Context(), &healthpb.HealthCheckRequest{})
	must(t, err)
	_, err = health.Recv()
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	must(t, w.server.Shutdown(ctx))
	if err := <-stream.end; err == nil || cred.KindOf(err) != cred.Unavailable {
		t.Errorf("ended with %v", err)
	}
	for err == nil {
		_, err = health.Recv()
	}
}

// A proxy that does not read what it is sent keeps nobody else from hearing of a revocation.
func TestAWatcherThatDoesNotReadBlocksNobody(t *testing.T) {
	w := newWorld(t, settings{options: rpc.Options{Heartbeat: time.Microsecond * 50}})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	deaf, err := pb.NewProxyServiceClient(w.conn(w.ca.client("daypass://proxy/edge"))).WatchRevocations(ctx, &pb.WatchRevocationsRequest{})
	must(t, err)
	_, err = deaf.Recv() // it watches, and reads no more: heartbeats fill its window
	must(t, err)
	stream := watch(t, w.edge())
	ann := w.member()
	for range 3 {
		id := w.revokedGrant(t, ann)
		if got := stream.next(t, true); got != id {
			t.Errorf("told %q, want %q", got, id)
		}
	}
	stream.stop()
	<-stream.end
}

// export writes an export as a file and returns its entries.
func export(t *testing.T, c *sdk.Client, r *pb.ExportRequest) (file []byte, entries []*pb.ExportedEntry, verifierKey string) {
	t.Helper()
	var buf bytes.Buffer
	x, err := audit.NewExporter(&buf, audit.FormatJSONL)
	must(t, err)
	cp, err := c.Export(t.Context(), r, func(e *pb.ExportedEntry) error {
		out := audit.Exported{Seq: e.GetSeq(), Canonical: e.GetCanonical()}
		for _, h := range e.GetProof() {
			out.Proof = append(out.Proof, tlog.Hash(h))
		}
		entries = append(entries, e)
		return x.Write(out)
	})
	must(t, err)
	must(t, x.Close(audit.Trailer{Note: []byte(cp.GetNote()), VerifierKey: cp.GetVerifierKey()}))
	return buf.Bytes(), entries, cp.GetVerifierKey()
}

func TestExportVerifies(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	id := w.revokedGrant(t, ann)
	w.revokedGrant(t, ann)
	auditor := w.as(w.token("aud", "audit"))
	all, entries, key := export(t, auditor, &pb.ExportRequest{})
	one, of, _ := export(t, auditor, &pb.ExportRequest{GrantId: id})
	none, _, _ := export(t, auditor, &pb.ExportRequest{Until: timestamppb.New(time.Unix(1, 0))})
	for name, file := range map[string][]byte{"all": all, "one grant": one, "none": none} {
		if _, err := audit.Verify(bytes.NewReader(file), audit.VerifyOptions{VerifierKey: key}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if len(of) == 0 || len(of) >= len(entries) || bytes.Count(one, []byte(id)) != len(of) {
		t.Errorf("%d entries of one grant, %d in all", len(of), len(entries))
	}
	changed := bytes.Replace(one, []byte(id), []byte(strings.Repeat("z", len(id))), 1)
	if _, err := audit.Verify(bytes.NewReader(changed), audit.VerifyOptions{VerifierKey: key}); err == nil {
		t.Error("a changed export verifies")
	}
	cp, err := auditor.Checkpoint(t.Context())
	must(t, err)
	if _, err := audit.OpenCheckpoint([]byte(cp.GetNote()), key); err != nil {
		t.Error(err)
	}
	if n := len(w.events(audit.AuditExported)); n != 3 {
		t.Errorf("%d exports are recorded, want 3", n)
	}
}

func TestOnlyAuditorsReadTheLog(t *testing.T) {
	w := newWorld(t, settings{})
	_, err := w.member().Export(t.Context(), &pb.ExportRequest{}, func(*pb.ExportedEntry) error {
		t.Error("an entry came out")
		return nil
	})
	wantError(t, err, cred.Denied, "ROLE_MISSING")
	_, err = w.member().Checkpoint(t.Context())
	wantError(t, err, cred.Denied, "ROLE_MISSING")
	if n := len(w.events(audit.AccessDenied)); n != 2 {
		t.Errorf("%d refusals are recorded, want 2", n)
	}
}

func TestShipUses(t *testing.T) {
	w := newWorld(t, settings{})
	var entries []sdk.ShippedEntry
	for seq := range uint64(3) {
		line, err := audit.Canonical(seq, audit.Event{Kind: audit.ProxyStarted, Time: time.Now().UTC()})
		must(t, err)
		entries = append(entries, sdk.ShippedEntry{Seq: seq, Canonical: line})
	}
	const log = "daypass-proxy/edge/uses"
	edge := w.edge()
	for _, step := range []struct{ from, to, next int }{{0, 2, 2}, {0, 2, 2}, {1, 3, 3}} { // once, again, and overlapping
		next, err := edge.ShipUses(t.Context(), log, entries[step.from:step.to])
		if err != nil || next != uint64(step.next) {
			t.Errorf("next %d, %v; want %d", next, err, step.next)
		}
	}
	if n := len(w.events(audit.ProxyStarted)); n != 3 {
		t.Errorf("%d entries are in our log, want 3", n)
	}
	_, err := edge.ShipUses(t.Context(), "daypass-proxy/other/uses", entries[:1])
	wantError(t, err, cred.Denied, "NOT_SHIPPABLE")
}

// The broker's slow writes do not hold up a reader: many callers, one server, all answered.
func TestManyCallersAtOnce(t *testing.T) {
	w := newWorld(t, settings{})
	ann := w.member()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			if _, err := ann.Exchange(t.Context(), cred.Request{Target: "orders"}); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := len(w.events(audit.ExchangeGranted)); n != 16 {
		t.Errorf("%d grants, want 16", n)
	}
}
