package cred_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/google/go-cmp/cmp"
)

// everyType has a value of each exported type of cred, with the secret wherever one fits.
func everyType() map[string]any {
	s := secret()
	who := cred.Principal{Provider: "p", Issuer: "i", Subject: "s", Claims: map[string]any{"k": s, "l": []any{&s}}, Actor: &cred.Principal{Claims: map[string]any{"k": s}}}
	want := cred.Request{Target: "t", Scopes: []string{"a"}, TTL: time.Minute}
	approval := cred.Approval{By: who, Verdict: cred.Verdict{Approve: true}}
	grant := cred.NewGrant("gr_1", who, cred.Request{Target: "t"}, instant, instant.Add(time.Hour))
	demand := cred.Demand{AllOf: []cred.Quorum{{Group: "leads", Count: 1}}}
	grant.Approvals, grant.Demand, grant.Review = []cred.Approval{approval}, &demand, &cred.Review{SignedOff: &approval}
	lease := cred.NewLease("le_1", "gr_1", "holder", "vault", "handle", instant, instant.Add(time.Hour))
	lease.Fingerprint = s.Fingerprint()
	target := cred.Target{Name: "t", HTTP: &cred.HTTPTarget{Upstream: "https://api.example.com"}}
	rotation := cred.NewRotation("rot_1", "root", who, "why", "", instant)
	rotation.Notes = map[string]cred.Secret{"password": s}
	return map[string]any{
		"Rotation": rotation, "RotationID": rotation.ID, "RotationState": rotation.State(), "RotationStep": rotation.Step(), "Finding": cred.Finding{},
		"RotationRecord": cred.RotationRecord{}, "RotationOutcome": cred.StepDone,
		"Secret": s, "Fingerprint": s.Fingerprint(), "Principal": who, "PrincipalKind": cred.KindAgent,
		"Credential": cred.Credential{Type: cred.Bearer, Fields: map[string]cred.Secret{"token": s}}, "CredentialType": cred.AWS,
		"Request": want, "Digest": want.Digest(who), "Grant": grant, "GrantState": grant.State(), "GrantID": grant.ID,
		"Approval": approval, "Verdict": approval.Verdict, "Lease": lease, "LeaseState": lease.State(), "LeaseID": lease.ID, "UseID": cred.NewUseID(instant),
		"Error": *cred.Errorf(cred.Denied, "op", "public", "cause %v %+v", s, who), "Kind": cred.Denied,
		"Binding": cred.BindDPoP, "Demand": demand, "Quorum": demand.AllOf[0], "Review": cred.Review{SignedOff: &approval},
		"Quota": cred.Quota{}, "Rate": cred.Rate{N: 1, Per: time.Hour},
		"Target": target, "HTTPTarget": *target.HTTP, "Delivery": cred.DeliverProxy, "CredentialSource": cred.CredentialSource{Issuer: "i"},
		"Injection": cred.Injection{Kind: cred.InjectBearer}, "InjectKind": cred.InjectBasic, "MaskSettings": cred.MaskSettings{},
	}
}

func TestNoExportedTypePrintsASecret(t *testing.T) {
	for name, v := range everyType() {
		boxed := struct {
			Public  any
			private any
		}{v, v}
		for _, verb := range "vsqdxXobcUtegp" {
			for _, flag := range []string{"", "+", "#", " "} {
				format := "%" + flag + string(verb)
				wantNoTrace(t, format+" of "+name, fmt.Sprintf(format+format+format, v, boxed, &boxed))
			}
		}
		b, err := json.Marshal(v)
		if err != nil {
			t.Errorf("JSON of %s: %v", name, err)
		}
		wantNoTrace(t, "JSON of "+name, string(b))
	}
}

// The list above is complete: whoever adds a type adds it there.
func TestEveryTypeIsPrinted(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var declared, printed []string
	for _, name := range files {
		if !strings.HasSuffix(name, "_test.go") {
			declared = append(declared, exportedTypes(t, name)...)
		}
	}
	for name := range everyType() {
		printed = append(printed, name)
	}
	slices.Sort(declared)
	slices.Sort(printed)
	if diff := cmp.Diff(declared, printed); diff != "" {
		t.Errorf("types (-declared +printed):\n%s", diff)
	}
}

func exportedTypes(t *testing.T, file string) []string {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, decl := range parsed.Decls {
		if g, ok := decl.(*ast.GenDecl); ok && g.Tok == token.TYPE {
			for _, spec := range g.Specs {
				if name := spec.(*ast.TypeSpec).Name; name.IsExported() {
					names = append(names, name.Name)
				}
			}
		}
	}
	return names
}
