package audit

import (
	"bufio"
	"encoding/hex"
	"net"
	"net/netip"
	"strconv"

	"github.com/daypass-io/daypass/cred"
)

// ocsfForm writes one OCSF event a line (https://schema.ocsf.io/1.5.0/). The trailer has no place in it.
type ocsfForm struct{}

const ocsfVersion = "1.5.0"

func (ocsfForm) header(*bufio.Writer) error { return nil }

func (ocsfForm) entry(w *bufio.Writer, x Exported) error {
	e, err := parseExported(x)
	if err != nil {
		return err
	}
	b, err := encode(newOCSFEvent(x, e))
	if err != nil {
		return badExport("the entry can't be written as an OCSF event", err)
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

func (ocsfForm) trailer(*bufio.Writer, Trailer) error { return nil }

// ocsfEvent is the base event with the attributes of the classes that we use.
type ocsfEvent struct {
	CategoryUID  int    `json:"category_uid"`
	ClassUID     int    `json:"class_uid"`
	ActivityID   int    `json:"activity_id"`
	ActivityName string `json:"activity_name"` // our kind
	TypeUID      int    `json:"type_uid"`
	Time         int64  `json:"time"` // milliseconds since 1970
	SeverityID   int    `json:"severity_id"`
	StatusID     int    `json:"status_id"`
	Status       string `json:"status,omitempty"`
	StatusCode   string `json:"status_code,omitempty"`
	StatusDetail string `json:"status_detail,omitempty"`
	Message      string `json:"message"`

	Metadata     ocsfMetadata   `json:"metadata"`
	User         *ocsfUser      `json:"user,omitempty"`
	Actor        *ocsfActor     `json:"actor,omitempty"`
	Session      *ocsfUID       `json:"session,omitempty"`
	Service      *ocsfName      `json:"service,omitempty"`
	Privileges   []string       `json:"privileges,omitempty"`
	Resources    []ocsfName     `json:"resources,omitempty"`
	App          *ocsfProduct   `json:"app,omitempty"`
	API          *ocsfAPI       `json:"api,omitempty"`
	Database     *ocsfName      `json:"database,omitempty"`
	SrcEndpoint  *ocsfEndpoint  `json:"src_endpoint,omitempty"`
	DstEndpoint  *ocsfEndpoint  `json:"dst_endpoint,omitempty"`
	HTTPRequest  *ocsfRequest   `json:"http_request,omitempty"`
	HTTPResponse *ocsfResponse  `json:"http_response,omitempty"`
	Duration     int64          `json:"duration,omitempty"` // milliseconds
	Unmapped     map[string]any `json:"unmapped,omitempty"`
	RawData      string         `json:"raw_data"` // the canonical bytes: nothing is lost on the way
}

type (
	ocsfMetadata struct {
		Version        string      `json:"version"`
		Product        ocsfProduct `json:"product"`
		UID            string      `json:"uid"`      // the entry's leaf hash in hex: unique, and found in the log
		Sequence       uint64      `json:"sequence"` // the entry's
		CorrelationUID string      `json:"correlation_uid,omitempty"`
		LogName        string      `json:"log_name"`
		EventCode      string      `json:"event_code"` // our kind
		Profiles       []string    `json:"profiles,omitempty"`
	}
	ocsfProduct struct {
		Name       string `json:"name"`
		VendorName string `json:"vendor_name"`
	}
	ocsfUser struct {
		Name   string     `json:"name,omitempty"`
		UID    string     `json:"uid,omitempty"`
		Domain string     `json:"domain,omitempty"`
		TypeID int        `json:"type_id"`
		Type   string     `json:"type,omitempty"`
		Groups []ocsfName `json:"groups,omitempty"`
	}
	ocsfActor struct {
		User    *ocsfUser `json:"user"`
		AppName string    `json:"app_name,omitempty"` // the agent that acts for the user
	}
	ocsfUID struct {
		UID string `json:"uid"`
	}
	ocsfName struct {
		Name string `json:"name"`
	}
	ocsfAPI struct {
		Operation string    `json:"operation"`
		Service   *ocsfName `json:"service,omitempty"`
		Request   *ocsfUID  `json:"request,omitempty"`
	}
	ocsfEndpoint struct {
		IP       string `json:"ip,omitempty"`
		Port     int    `json:"port,omitempty"`
		Hostname string `json:"hostname,omitempty"`
		Name     string `json:"name,omitempty"`
	}
	ocsfURL struct {
		Hostname string `json:"hostname,omitempty"`
		Path     string `json:"path,omitempty"`
	}
	ocsfRequest struct {
		Method string   `json:"http_method,omitempty"`
		UID    string   `json:"uid,omitempty"`
		Length int64    `json:"length,omitempty"`
		URL    *ocsfURL `json:"url,omitempty"`
	}
	ocsfResponse struct {
		Code   int   `json:"code"`
		Length int64 `json:"length,omitempty"`
	}
)

func newOCSFEvent(x Exported, e Event) ocsfEvent {
	leaf := LeafHash(x.Canonical)
	c := ocsfClassOf(e)
	out := ocsfEvent{
		CategoryUID: c.class / 1000, ClassUID: c.class, ActivityID: c.activity, ActivityName: string(e.Kind),
		TypeUID: c.class*100 + c.activity, Time: e.Time.UnixMilli(), SeverityID: c.severity,
		StatusID: c.status, Status: c.statusText, Message: messageOf(e),
		Metadata: ocsfMetadata{
			Version: ocsfVersion, Product: ocsfSelf(), UID: hex.EncodeToString(leaf[:]), Sequence: x.Seq,
			CorrelationUID: string(e.Grant), LogName: "daypass audit log", EventCode: string(e.Kind),
		},
		Unmapped: e.Detail, RawData: string(x.Canonical),
	}
	switch d := e.Decision; {
	case e.Error != nil:
		out.StatusCode, out.StatusDetail = e.Error.Reason, e.Error.Public
	case d != nil && !d.Allowed:
		out.StatusCode, out.StatusDetail = d.Reason, d.Condition
	case d != nil && d.Exempt != "":
		out.StatusDetail = "without approval: " + d.Exempt
	}
	out.addParts(c.class, e)
	return out
}

func ocsfSelf() ocsfProduct { return ocsfProduct{Name: "daypass", VendorName: "daypass"} }

func messageOf(e Event) string {
	text := string(e.Kind)
	if e.Principal != nil {
		text += " by " + e.Principal.Subject
	}
	if e.Request != nil {
		text += " for " + e.Request.Target
	}
	return text
}

// addParts fills in what the class asks for, and what it may have.
func (o *ocsfEvent) addParts(class int, e Event) {
	user := ocsfUserOf(e.Principal)
	actor := &ocsfActor{User: user}
	if e.Principal != nil {
		actor.AppName = actorOf(*e.Principal).Subject
	}
	o.SrcEndpoint = ocsfEndpointOf(e.Peer)
	switch class {
	case ocsfAuthentication:
		o.User, o.Actor, o.Service = user, actor, &ocsfName{serviceOf(e)}
	case ocsfAuthorizeSession, ocsfUserAccess:
		o.User, o.Actor, o.Privileges = user, actor, privilegesOf(e)
		if e.Request != nil && class == ocsfUserAccess {
			o.Resources = []ocsfName{{e.Request.Target}}
		}
	case ocsfAccountChange:
		o.User = &ocsfUser{TypeID: 99, Type: "root credential", Name: "root credential"}
		if e.Rotation != nil {
			o.User.Name, o.User.UID = e.Rotation.Issuer, e.Rotation.ID
		}
	case ocsfLifecycle:
		self := ocsfSelf()
		o.App = &self
	case ocsfAPIActivity, ocsfDatastore:
		o.Actor = actor
		o.addUse(class, e)
	}
	if e.Grant != "" && (class == ocsfAuthentication || class == ocsfAuthorizeSession) {
		o.Session = &ocsfUID{string(e.Grant)}
	}
	if o.SrcEndpoint == nil && o.Actor != nil {
		o.SrcEndpoint = &ocsfEndpoint{Name: "unknown"}
	}
}

func (o *ocsfEvent) addUse(class int, e Event) {
	use := Use{}
	if e.Use != nil {
		use = *e.Use
		o.DstEndpoint = ocsfEndpointOf(use.Host)
		o.Duration = use.DurationMS
	}
	if class == ocsfDatastore {
		o.Database = &ocsfName{serviceOf(e)}
		return
	}
	operation := use.Method
	if operation == "" {
		operation = "unknown"
	}
	o.API = &ocsfAPI{Operation: operation, Service: &ocsfName{serviceOf(e)}}
	if e.Use == nil {
		return
	}
	o.API.Request = &ocsfUID{string(use.ID)}
	o.HTTPRequest = &ocsfRequest{
		Method: use.Method, UID: string(use.ID), Length: use.BytesIn,
		URL: &ocsfURL{Hostname: use.Host, Path: use.Path},
	}
	if use.Status != 0 {
		o.HTTPResponse = &ocsfResponse{Code: use.Status, Length: use.BytesOut}
	}
}

func ocsfUserOf(p *Principal) *ocsfUser {
	if p == nil {
		return &ocsfUser{Name: "unknown"}
	}
	u := &ocsfUser{Name: p.Name, UID: p.Subject, Domain: p.Issuer, Type: string(p.Kind)}
	if u.Name == "" {
		u.Name = p.Subject
	}
	switch p.Kind {
	case cred.KindPerson:
		u.TypeID = 1
	case cred.KindWorkload, cred.KindProxy:
		u.TypeID = 4
	case cred.KindAgent:
		u.TypeID = 99
	}
	for _, g := range p.Groups {
		u.Groups = append(u.Groups, ocsfName{g})
	}
	return u
}

// serviceOf names what was to be reached: the target, or daypass itself.
func serviceOf(e Event) string {
	if e.Request != nil && e.Request.Target != "" {
		return e.Request.Target
	}
	if e.Use != nil && e.Use.Host != "" {
		return e.Use.Host
	}
	return "daypass"
}

// privilegesOf returns the scopes, or the target where a grant has none: the attribute is required.
func privilegesOf(e Event) []string {
	if e.Request != nil && len(e.Request.Scopes) > 0 {
		return e.Request.Scopes
	}
	return []string{serviceOf(e)}
}

func ocsfEndpointOf(address string) *ocsfEndpoint {
	if address == "" {
		return nil
	}
	host, portText, err := net.SplitHostPort(address)
	if err != nil {
		host = address
	}
	out := &ocsfEndpoint{}
	if port, err := strconv.ParseUint(portText, 10, 16); err == nil {
		out.Port = int(port)
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		out.IP = ip.String()
	} else {
		out.Hostname = host
	}
	return out
}
