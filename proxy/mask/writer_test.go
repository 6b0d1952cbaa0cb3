package mask

import (
	"bytes"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/daypass-io/daypass/cred"
)

// cut writes text in pieces, and returns what came out and the counts.
func cut(m *Masker, text []byte, size func(left int) int) ([]byte, []Count) {
	var out bytes.Buffer
	w := m.Writer(&out)
	for len(text) > 0 {
		n := min(max(1, size(len(text))), len(text))
		_, _ = w.Write(text[:n])
		_ = w.Flush()
		text = text[n:]
	}
	_ = w.Close()
	return out.Bytes(), w.Counts()
}

// fragments are what texts for the tests of cuts are made of: finds, halves of finds, and what stands
// beside them.
func fragments() []string {
	f := []string{
		"", " ", "\n", `\n`, `\\`, `\`, "%", "%20", `\u00`, "e", "ey", "eyJ", ".", "@", "-", "-----", "BEGIN", "4111", " 1111", "s.", "gh", "DE89 3704",
		"prose and more ", `{"k":"`, `"}`, "jane", "@example.com", "-----BEGIN RSA PRIVATE KEY-----\n", "-----END RSA PRIVATE KEY-----", rep(mixed, 70), "SecretAccessKey: ", rep("aB3/", 40),
	}
	for _, s := range samples() {
		f = append(f, s.token, s.token[:len(s.token)/2], s.token[len(s.token)/2:])
	}
	for _, form := range encodings(secretSample) {
		f = append(f, form, form[:len(form)/2], form[len(form)/2:])
	}
	return f
}

func everything(t testing.TB) *Masker {
	return compile(t, Secrets, PII).Masker(cred.SecretString(secretSample), cred.SecretString("-----B"), cred.SecretString(rep(mixed, 50)))
}

// However a text is cut, what leaves is the same, and so are the counts.
func TestCutsChangeNothing(t *testing.T) {
	m, parts := everything(t), fragments()
	rapid.Check(t, func(t *rapid.T) {
		text := []byte(strings.Join(rapid.SliceOfN(rapid.SampledFrom(parts), 1, 12).Draw(t, "parts"), ""))
		want, wantCounts := m.Bytes(text)
		sizes := rapid.SliceOfN(rapid.IntRange(1, 40), 1, 20).Draw(t, "sizes")
		k := 0
		got, counts := cut(m, text, func(int) int { k++; return sizes[k%len(sizes)] })
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatal(diff)
		}
		if diff := cmp.Diff(wantCounts, counts); diff != "" {
			t.Fatal(diff)
		}
		got, counts = cut(m, text, func(int) int { return 1 })
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Fatalf("byte by byte: %s", diff)
		}
		if diff := cmp.Diff(wantCounts, counts); diff != "" {
			t.Fatalf("byte by byte: %s", diff)
		}
	})
}

// A long text with finds at every place relative to the chunks that a Writer works on.
func TestChunkEdges(t *testing.T) {
	m := everything(t)
	for shift := range 90 {
		text := rep("some prose, ", 0) + rep("clean text. ", chunk-60+shift) + jwtSample() + rep(" clean text.", chunk) + "jane@example.com" + rep(" clean", 100)
		want := rep("clean text. ", chunk-60+shift)
		got, _ := m.Bytes([]byte(text))
		if !bytes.HasPrefix(got, []byte(want[:len(want)-16])) || bytes.Contains(got, []byte("eyJ")) || bytes.Contains(got, []byte("jane")) {
			t.Fatalf("shift %d", shift)
		}
		if again, _ := cut(m, []byte(text), func(int) int { return 4099 }); !bytes.Equal(got, again) {
			t.Fatalf("shift %d: pieces differ from the whole", shift)
		}
	}
}

// What cannot begin a find leaves at once; what can, stays.
func TestHoldsBackNoMoreThanNeeded(t *testing.T) {
	secrets := compile(t, Secrets).Masker(cred.SecretString("hunter2000"))
	all := compile(t, Secrets, PII).Masker()
	for _, c := range []struct {
		m           *Masker
		text, leave string
	}{
		{secrets, "Hello, wOULD ", "Hello, wOULD "},
		{secrets, "Hello; h", "Hello; "},
		{secrets, "it is hunt", "it is "},
		{secrets, "it is hurt", "it is "},
		{all, "write to jane", "write to "},
		{all, "write to jane ", "write to jane "},
		{all, "in 2026", "in "},
		{all, "in 2026, ", "in 2026, "},
		{all, "-----BEGIN PRI", "-----"},
		{all, "key " + pem("PRIVATE KEY", "\n", 3)[:90], "key -----[masked:private-key]"},
		{secrets, "a gh" + "p_" + rep(mixed, 36), "a "},
		{secrets, "a gh" + "p_" + rep(mixed, 36) + " ", "a [masked:github-token] "},
	} {
		var out bytes.Buffer
		w := c.m.Writer(&out)
		if _, err := w.Write([]byte(c.text)); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
		left := strings.TrimPrefix(c.leave, out.String())
		if !strings.HasPrefix(c.leave, out.String()) || len(left) > 4+terraformID && c.m == secrets || c.m == all && left != "" {
			t.Errorf("%q: %q left, want %q", c.text, out.String(), c.leave)
		}
	}
}

// Whatever arrives, no more than the documented bound is kept.
func TestMemoryIsBounded(t *testing.T) {
	m := everything(t)
	for _, text := range []string{"ey", "eyJ", "eyJaaaaaaaaaaaaaaaaaaaaa.", "a", "%25", `\`, "4111 ", "1", "@", "a@", "gh" + "s_", pem("PRIVATE KEY", "\n", 1)[:90], `\n`, "hooks." + "slack.com/a/a/a/a"} {
		w := m.Writer(&bytes.Buffer{})
		for range 40 {
			_, _ = w.Write([]byte(strings.Repeat(text, 4096/len(text))))
			if held := len(w.engine.v.buf); held > 2*(maxHold+4096) {
				t.Fatalf("%q: %d bytes held", text, held)
			}
			if len(w.engine.tails) > 4 || len(w.engine.spans) > maxHold {
				t.Fatalf("%q: %d tails, %d spans", text, len(w.engine.tails), len(w.engine.spans))
			}
		}
		_ = w.Close()
	}
}

// One Masker serves many goroutines.
func TestMaskerIsConcurrent(t *testing.T) {
	m := everything(t)
	text := []byte(strings.Join(fragments(), " "))
	want, _ := m.Bytes(text)
	var group sync.WaitGroup
	for size := range 8 {
		group.Go(func() {
			if got, _ := cut(m, text, func(int) int { return 50 + size }); !bytes.Equal(want, got) {
				t.Errorf("pieces of %d: another result", 50+size)
			}
		})
	}
	group.Wait()
}

// flusher counts its flushes.
type flusher struct {
	bytes.Buffer
	n int
}

func (f *flusher) Flush() { f.n++ }

func TestFlushReachesTheDestination(t *testing.T) {
	var dst flusher
	w := everything(t).Writer(&dst)
	if err := w.Flush(); err != nil || dst.n != 1 {
		t.Errorf("%v, %d flushes", err, dst.n)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := w.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("Write after Close went well")
	}
}

// FuzzSplit compares any text in any pieces with the whole.
func FuzzSplit(f *testing.F) {
	for _, s := range fragments() {
		f.Add([]byte("x "+s+" y"), byte(3))
	}
	f.Add([]byte(strings.Join(fragments(), "")), byte(1))
	m := everything(f)
	f.Fuzz(func(t *testing.T, text []byte, seed byte) {
		want, wantCounts := m.Bytes(text)
		state := uint32(seed)
		got, counts := cut(m, text, func(int) int {
			state = state*1664525 + 1013904223
			return int(state >> 24 % 24)
		})
		if !bytes.Equal(want, got) {
			t.Fatalf("whole %q\npieces %q", want, got)
		}
		if diff := cmp.Diff(wantCounts, counts); diff != "" {
			t.Fatal(diff)
		}
	})
}

// Writers that follow each other work in the same memory: what one has passed on, or counted, is not
// changed by the next, and a closed one takes nothing more.
func TestWritersShareNothing(t *testing.T) {
	m := everything(t)
	secret := secretSample
	var outs [40]bytes.Buffer
	var wg sync.WaitGroup
	for i := range outs {
		wg.Go(func() {
			w := m.Writer(&outs[i])
			text := strings.Repeat(string(rune('a'+i%26))+" "+secret+" ", i+1)
			_, _ = w.Write([]byte(text))
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			for range 3 { // the memory is somebody else's by now
				other := m.Writer(new(bytes.Buffer))
				_, _ = other.Write([]byte("something else " + secret))
				_ = other.Close()
			}
			if _, err := w.Write([]byte("late")); err == nil {
				t.Error("a closed Writer takes more")
			}
			if diff := cmp.Diff([]Count{{Credential, i + 1}}, w.Counts()); diff != "" {
				t.Error(diff)
			}
			want := strings.Repeat(string(rune('a'+i%26))+" [masked:credential] ", i+1)
			if got := outs[i].String(); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	wg.Wait()
}
