package mask

// class is a set of bytes that a token is made of. Its id is its place in view.runs.
type class struct {
	id int
	in [256]bool
}

const numClasses = 9

// The classes. None holds a byte that JSON, a percent escape or an SSE line gives a meaning to.
var (
	alnumClass  = &class{0, set("0-9A-Za-z")}
	upperClass  = &class{1, set("0-9A-Z")}
	wordClass   = &class{2, set("0-9A-Za-z_")}
	dashClass   = &class{3, set("0-9A-Za-z_-")}
	dotClass    = &class{4, set("0-9A-Za-z._-")}
	base64Class = &class{5, set("0-9A-Za-z+/=_-")}
	hexClass    = &class{6, set("0-9a-fA-F")}
	fieldClass  = &class{7, set("0-9A-Za-z._;:=,/+@~-")} // of a Copilot token
	domainClass = &class{8, set("0-9A-Za-z.-")}
)

// grow makes a match go on behind what could be waited for.
type grow interface {
	// more looks at the text from pos on. It returns the match's end so far, where to look from next
	// time, and whether the match ends there. Without done, end is the end of the text so far.
	more(v *view, pos int) (end, next int, done bool)
}

// more is for a run that goes on for as long as its class.
func (c *class) more(v *view, pos int) (end, next int, done bool) {
	for pos < len(v.buf) && c.in[v.buf[pos]] {
		pos++
	}
	return pos, pos, pos < len(v.buf)
}
