package main

import (
	"io"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/daypass-io/daypass/internal/cli"
	pb "github.com/daypass-io/daypass/proto/daypass/v1"
)

// What a source names can't steer the terminal.
func TestShowSources(t *testing.T) {
	at := timestamppb.New(time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC))
	all := &pb.ListSourcesResponse{Sources: []*pb.SourceReport{
		{Issuer: "idle"},
		{Issuer: "prod-vault", CompareTime: at, Listed: 12, Ours: 9, Strays: 3, Missing: 1, StrayNames: []string{"database/creds/ro/one", "two\x1b[2J"}},
		{Issuer: "sealed", CompareTime: at, Problem: "Vault is sealed"},
	}}
	var out strings.Builder
	if err := show(&out, cli.Text, all, func(w io.Writer) { showSources(w, all) }); err != nil {
		t.Fatal(err)
	}
	want := `ISSUER      COMPARED              LISTED  OURS  STRAYS  MISSING  PROBLEM
idle        -                     0       0     0       0        
prod-vault  2026-05-04T12:00:00Z  12      9     3       1        
sealed      2026-05-04T12:00:00Z  0       0     0       0        Vault is sealed

strays of prod-vault, 2 of 3
database/creds/ro/one
two\x1b[2J
`
	if got := out.String(); got != want {
		t.Errorf("it is\n%s\nwant\n%s", got, want)
	}
}
