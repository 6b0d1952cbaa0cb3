package mask

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/daypass-io/daypass/cred"
)

const benchSize = 16 << 20

// prose makes text of common English words, as assistants write it.
func prose() []byte {
	words := strings.Fields(`the of and to in a is that for it as was with be by on not he his but at are this have from they which one you
		were her all she there would their we him been has when who will more no if out so said what up its about into than them can only
		other new some could time these two may then do first any my now such like our over man me even most made after also did many
		before must through back years where much your way well down should because each just those people keyboard function returns error
		secret security token github package import string value context request response handler server client`)
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	for b.Len() < benchSize {
		b.WriteString(words[r.IntN(len(words))])
		switch r.IntN(16) {
		case 0:
			b.WriteString(", ")
		case 1:
			b.WriteString(".\n")
		default:
			b.WriteByte(' ')
		}
	}
	return b.Bytes()[:benchSize]
}

// jsonLines makes records as APIs answer them: ids, instants, numbers, hashes, escapes.
func jsonLines() []byte {
	r := rand.New(rand.NewPCG(3, 4))
	var b bytes.Buffer
	for b.Len() < benchSize {
		fmt.Fprintf(&b, `{"id":%d,"node_id":"%016x","created_at":"2026-11-%02dT%02d:%02d:00Z","ms":%d,"score":%.6f,"name":"user-%d","ok":%t,"tags":["go","json","%s"],"body":"line one\nsaid \"%d\" and left\n","sha":"%032x%08x","url":"https:\/\/api.example.com\/items\/%d?page=%d&q=a%%20b"}`+"\n",
			r.Uint32(), r.Uint64(), r.IntN(28)+1, r.IntN(24), r.IntN(60), 1765000000000+r.Int64N(1e9), r.Float64(), r.IntN(1e6), r.IntN(2) == 0,
			[]string{"secret", "public", "key"}[r.IntN(3)], r.IntN(1e4), r.Uint64(), r.Uint32(), r.Uint32(), r.IntN(99))
	}
	return b.Bytes()[:benchSize]
}

// dense makes text in which most bytes belong to something that is masked.
func dense() []byte {
	all := samples()
	r := rand.New(rand.NewPCG(5, 6))
	var b bytes.Buffer
	for b.Len() < benchSize {
		b.WriteString(all[r.IntN(len(all))].token)
		b.WriteString(" and\n")
	}
	return b.Bytes()[:benchSize]
}

func benchmark(b *testing.B, text []byte) {
	m := compile(b, Secrets, PII).Masker(cred.SecretString("gh"+"s_"+"123456_"+jwtSample()), cred.SecretString("correct horse battery staple"))
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	start := cpuSeconds()
	defer func() {
		b.ReportMetric(float64(len(text))*float64(b.N)/1e6/(cpuSeconds()-start), "MB/cpu-s")
	}()
	for b.Loop() {
		w := m.Writer(io.Discard)
		for rest := text; len(rest) > 0; {
			n := min(32<<10, len(rest))
			if _, err := w.Write(rest[:n]); err != nil {
				b.Fatal(err)
			}
			rest = rest[n:]
		}
		if err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// cpuSeconds is the processor time that the process has used: on a machine that is shared, it says
// more than the clock.
func cpuSeconds() float64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return float64(u.Utime.Nano()+u.Stime.Nano()) / 1e9
}

func BenchmarkCleanProse(b *testing.B) { benchmark(b, prose()) }
func BenchmarkCleanJSON(b *testing.B)  { benchmark(b, jsonLines()) }
func BenchmarkDense(b *testing.B)      { benchmark(b, dense()) }

// BenchmarkHostile measures texts that make detectors look much and find nothing.
func BenchmarkHostile(b *testing.B) {
	for _, part := range []string{"eyJ", "a@", "4111 ", "%2525", `\`, "sk-", "DE89 ", "-----BEGIN ", "secretaccesskey=", header + ".eyJ"} {
		b.Run(part, func(b *testing.B) { benchmark(b, []byte(rep(part, benchSize))) })
	}
}

// BenchmarkSSE measures an event stream of prose in deltas of a word.
func BenchmarkSSE(b *testing.B) {
	f := flavours()[0]
	var stream bytes.Buffer
	for word := range bytes.FieldsSeq(prose()[:1<<20]) {
		stream.WriteString(f.delta(string(word) + " "))
	}
	m := compile(b, Secrets, PII).Masker(cred.SecretString("correct horse battery staple"))
	b.SetBytes(int64(stream.Len()))
	b.ReportAllocs()
	for b.Loop() {
		s := m.SSE(io.Discard)
		for rest := stream.Bytes(); len(rest) > 0; {
			n := min(4<<10, len(rest))
			_, _ = s.Write(rest[:n])
			rest = rest[n:]
		}
		_ = s.Close()
	}
}
