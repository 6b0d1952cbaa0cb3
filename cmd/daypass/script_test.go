package main

import (
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/daypass-io/daypass/clients/login/logintest"
	"github.com/daypass-io/daypass/internal/cli/clitest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"daypass": main, "git-credential-daypass": main, "browser": browse})
}

// browse is what a browser is to a sign-in: it goes where it is sent.
func browse() {
	resp, err := http.Get(os.Args[1])
	if err != nil {
		os.Exit(1)
	}
	resp.Body.Close()
}

// TestScripts has, besides clitest's commands,
//
//	broker [tls]                         starts a broker and sets DAYPASS_BROKER; with tls its CA is in ca.pem
//	idtoken FILE SUBJECT [GROUP...]      writes an ID token that the broker takes
//	expired FILE                         writes one that has expired
//	actions STATUS                       sets the variables that a GitHub Actions job has
//	staff WHAT [ARG]                     changes the provider that people sign in with, see staff
//	await-request REASON NAME            waits for a request with a reason, and sets a variable to its ID
//	await-rotation ROTATION STATE        waits until a rotation is over, and checks how it ended
//	until NAME DURATION                  sets a variable to an instant so far from now
//	pick NAME PATH                       sets a variable to a value of the JSON that was printed
func TestScripts(t *testing.T) {
	clitest.Run(t, prepareWorld, map[string]clitest.Command{
		"broker": startBroker, "idtoken": idToken, "expired": expired, "actions": actions, "pick": pick, "staff": staff,
		"await-request": awaitRequest, "until": until, "await-rotation": awaitRotation,
	})
}

func idToken(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	writeToken(ts, args[0], w.idp.Sign(w.idp.PersonClaims(w.url, args[1], args[2:]...)))
}

func expired(ts *testscript.TestScript, _ bool, args []string) {
	w := worldOf(ts)
	claims := w.idp.PersonClaims(w.url, "ann", "team")
	claims["exp"] = time.Now().Add(-time.Minute).Unix()
	writeToken(ts, args[0], w.idp.Sign(claims))
}

func writeToken(ts *testscript.TestScript, name, token string) {
	ts.Check(os.WriteFile(ts.MkAbs(name), []byte(token+"\n"), 0o600))
}

// actions stands in for the token service that GitHub gives each job: it wants the job's bearer, and
// an audience after the query that its URL has already.
func actions(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[0])
	ts.Check(err)
	w := worldOf(ts)
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer request-token" || q.Get("api-version") != "2.0" || len(q["audience"]) != 1 {
			http.Error(rw, "not as the job's own toolkit asks", http.StatusBadRequest)
			return
		}
		rw.WriteHeader(status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"value": w.idp.Sign(w.idp.PersonClaims(q.Get("audience"), "the-job", "team"))})
	}))
	ts.Defer(service.Close)
	ts.Setenv("ACTIONS_ID_TOKEN_REQUEST_URL", service.URL+"/token?api-version=2.0")
	ts.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "request-token")
}

// staff changes the provider that people sign in with, or looks at it:
//
//	staff enter FILE        enters the code that is shown in a file
//	staff subject NAME      the person who signs in from now on
//	staff lifetime 1h       of ID tokens
//	staff interval N        seconds that devices wait
//	staff end               every sign-in, as an administrator would
//	staff no refresh|device|revocation
//	staff alive N           checks how many sign-ins have not ended
func staff(ts *testscript.TestScript, _ bool, args []string) {
	p, arg := worldOf(ts).staff, ""
	if len(args) > 1 {
		arg = args[1]
	}
	switch args[0] {
	case "enter":
		code := regexp.MustCompile(`(?m)^  ([A-Z2-7]{4}-[A-Z2-7]{4})$`).FindStringSubmatch(ts.ReadFile(arg))
		if code == nil || !p.Enter(code[1]) {
			ts.Fatalf("%s shows no code that waits", arg)
		}
	case "end":
		p.EndAll()
	case "alive":
		if got := strconv.Itoa(p.Alive()); got != arg {
			ts.Fatalf("%s sign-ins are alive", got)
		}
	default:
		p.Set(func(b *logintest.Behaviour) { changeStaff(ts, b, args[0], arg) })
	}
}

func changeStaff(ts *testscript.TestScript, b *logintest.Behaviour, what, arg string) {
	var err error
	switch what {
	case "subject":
		b.Person = logintest.Person{Subject: arg, Groups: []string{"team"}}
	case "lifetime":
		b.Lifetime, err = time.ParseDuration(arg)
	case "interval":
		b.Interval, err = strconv.Atoi(arg)
	case "no":
		b.NoRefresh, b.NoDevice, b.NoRevocation = arg == "refresh", arg == "device", arg == "revocation"
	default:
		ts.Fatalf("staff: what is %q?", what)
	}
	ts.Check(err)
}

func pick(ts *testscript.TestScript, _ bool, args []string) {
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	for step := range strings.SplitSeq(args[1], ".") {
		switch in := at.(type) {
		case map[string]any:
			at = in[step]
		case []any:
			n, err := strconv.Atoi(step)
			if err != nil || n >= len(in) {
				ts.Fatalf("%s: there is no element %s", args[1], step)
			}
			at = in[n]
		default:
			at = nil
		}
	}
	text, ok := at.(string)
	if !ok || text == "" {
		ts.Fatalf("there is no text at %s", args[1])
	}
	ts.Setenv(args[0], text)
}

// writeCA writes the certificate that a TLS server of httptest has.
func writeCA(ts *testscript.TestScript, server *httptest.Server) {
	block := &pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}
	ts.Check(os.WriteFile(ts.MkAbs("ca.pem"), pem.EncodeToMemory(block), 0o600))
}
