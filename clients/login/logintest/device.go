package logintest

import (
	"crypto/rand"
	"net/http"
	"net/url"
	"time"
)

// deviceLife is how long a device code lasts.
const deviceLife = 5 * time.Minute

// device is a device authorization that waits for somebody.
type device struct {
	userCode string
	again    bool
	begun    time.Time
	asked    time.Time     // last
	told     time.Duration // the interval that the client knows of
	interval time.Duration // that it is held to
	decided  bool
	denied   bool
}

// deviceAuthorization is RFC 8628, section 3.1.
func (p *Provider) deviceAuthorization(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || p.is.NoDevice || r.PostForm.Get("client_id") != ClientID || !only(r.PostForm, "client_id", "scope", "prompt", "max_age") {
		refuse(w, http.StatusBadRequest, "invalid_client", "unknown client or parameter")
		return
	}
	interval := 5 * time.Second
	if p.is.Interval > 0 {
		interval = time.Duration(p.is.Interval) * time.Second
	}
	code := rand.Text()
	d := &device{userCode: rand.Text()[:4] + "-" + rand.Text()[:4], again: r.PostForm.Get("max_age") == "0", begun: time.Now(), asked: time.Now(), told: interval, interval: interval + time.Duration(p.is.Stricter)*time.Second}
	p.devices[code] = d
	answer := map[string]any{"device_code": code, "user_code": d.userCode, "expires_in": int(deviceLife.Seconds())}
	if p.is.Interval > 0 {
		answer["interval"] = p.is.Interval
	}
	if p.is.Device == DeviceGoogle {
		answer["verification_url"] = p.URL + "/device"
	} else {
		answer["verification_uri"] = p.URL + "/device"
		answer["verification_uri_complete"] = p.URL + "/device?user_code=" + d.userCode
	}
	writeJSON(w, http.StatusOK, answer)
}

// Enter decides for the device that shows a code, as a person on the provider's page does; with an empty
// code for every device. It reports whether there was one that waited.
func (p *Provider) Enter(userCode string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	found := false
	for _, d := range p.devices {
		if !d.decided && (userCode == "" || d.userCode == userCode) {
			d.decided, d.denied, found = true, p.is.Deny, true
		}
	}
	return found
}

// pollDevice is RFC 8628, section 3.4 and 3.5. Who asks too soon is told to slow down, for good.
func (p *Provider) pollDevice(w http.ResponseWriter, form url.Values) {
	d := p.devices[form.Get("device_code")]
	if d == nil || !only(form, "grant_type", "device_code", "client_id", "scope") {
		refuse(w, http.StatusBadRequest, "invalid_grant", "no such device code")
		return
	}
	now, early := time.Now(), false
	// A hundredth is for the clocks of two processes.
	if now.Sub(d.asked) < d.interval-d.interval/100 {
		early, d.told = true, d.told+5*time.Second
		d.interval = d.told
	}
	d.asked = now
	switch {
	case now.Sub(d.begun) > deviceLife:
		p.refuseDevice(w, http.StatusBadRequest, "expired_token")
	case early:
		p.counts["slow_down"]++
		p.refuseDevice(w, http.StatusForbidden, "slow_down")
	case !d.decided:
		p.refuseDevice(w, http.StatusPreconditionRequired, "authorization_pending")
	case d.denied:
		p.refuseDevice(w, http.StatusBadRequest, "access_denied")
	default:
		delete(p.devices, form.Get("device_code"))
		p.issue(w, p.signIn(d.again), "")
	}
}

// refuseDevice answers with the status of the provider's style.
func (p *Provider) refuseDevice(w http.ResponseWriter, google int, code string) {
	status := http.StatusBadRequest
	switch p.is.Device {
	case DeviceGitHub:
		status = http.StatusOK
	case DeviceGoogle:
		status = google
	}
	refuse(w, status, code, "the device flow says %s", code)
}
