package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/daypass-io/daypass/cred"
	"github.com/daypass-io/daypass/proxy/mask"
)

// maskBytes is how much text is masked, and chunk how much of it at a time, as an upstream sends it.
const (
	maskBytes = 16 << 20
	chunk     = 32 << 10
)

// benchMask measures the masker on one core: all detectors on, and one injected credential.
func benchMask(_ context.Context, b *bench) ([]result, error) {
	detectors, err := mask.Compile([]string{mask.Secrets, mask.PII})
	if err != nil {
		return nil, err
	}
	masker := detectors.Masker(cred.SecretString("bench-injected-credential-0123456789"))
	var all []result
	for _, text := range []struct {
		name, goal string
		make       func(*rand.Rand) string
	}{
		{"mask: clean prose", "≥ 150", prose},
		{"mask: clean JSON", "≥ 150", jsonText},
		{"mask: dense with secrets", "≥ 30", dense},
	} {
		data := fill(text.make)
		var best float64
		for range b.rounds {
			speed, err := maskSpeed(masker, data)
			if err != nil {
				return nil, err
			}
			best = max(best, speed)
		}
		all = append(all, result{Name: text.name, Value: best, Unit: "MB/s", Goal: text.goal})
	}
	return all, nil
}

func maskSpeed(m *mask.Masker, data []byte) (float64, error) {
	began := time.Now()
	w := m.Writer(io.Discard)
	for from := 0; from < len(data); from += chunk {
		if _, err := w.Write(data[from:min(len(data), from+chunk)]); err != nil {
			return 0, err
		}
	}
	if err := w.Close(); err != nil {
		return 0, err
	}
	return float64(len(data)) / 1e6 / time.Since(began).Seconds(), nil
}

func fill(piece func(*rand.Rand) string) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, 0, maskBytes+1024)
	for len(data) < maskBytes {
		data = append(data, piece(r)...)
	}
	return data[:maskBytes]
}

var words = strings.Fields(`the of and to in is that it for was on are as with his they at be this from have or by one had
	not but what all were when we there can an your which their said if do will each about how up out them then she many
	some so these would other into has more her two like him see time could no make than first been its who now people my
	made over did down only way find use may water long little very after words called just where most know`)

func prose(r *rand.Rand) string {
	end := " "
	if r.IntN(12) == 0 {
		end = ". "
	}
	return words[r.IntN(len(words))] + end
}

func jsonText(r *rand.Rand) string {
	return fmt.Sprintf(`{"id":"item-%d","name":"%s %s","price":%d.%02d,"tags":["%s","%s"],"created":"2026-11-%02dT%02d:00:00Z","ok":true}`+"\n",
		r.IntN(1e6), words[r.IntN(len(words))], words[r.IntN(len(words))], r.IntN(1000), r.IntN(100),
		words[r.IntN(len(words))], words[r.IntN(len(words))], 1+r.IntN(28), r.IntN(24))
}

// dense has a secret or a personal datum in every line of a hundred bytes or so. The secrets are put
// together here, so that none stands in the source.
func dense(r *rand.Rand) string {
	random := func(n int) string {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	var secret string
	switch r.IntN(5) {
	case 0:
		secret = "gh" + "p_" + random(36)
	case 1:
		secret = "gl" + "pat-" + random(20)
	case 2:
		secret = strings.ToLower(random(8)) + "@example.com"
	case 3:
		secret = "np" + "m_" + random(36)
	default:
		secret = "bench-injected-credential-0123456789"
	}
	return words[r.IntN(len(words))] + " " + words[r.IntN(len(words))] + `: "` + secret + "\"\n"
}
