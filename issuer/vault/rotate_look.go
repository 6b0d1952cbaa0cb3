package vault

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/daypass-io/daypass/cred"
)

func (x *root) lookAtKeys(ctx context.Context, k rootKind, found *findings) error {
	if !k.accessKey {
		return nil
	}
	if x.cfg.Keys == nil {
		found.leave("one access key", "not looked at, since the broker has no right to list the user's keys; with two of them AWS will refuse, and after a lost answer somebody has to delete the old key by hand")
		return nil
	}
	keys, err := x.cfg.Keys.List(ctx)
	if err != nil {
		return found.tell("one access key", "", err)
	}
	inUse, err := x.inUse(ctx, k)
	if err != nil {
		return found.tell("one access key", "", err)
	}
	*found = append(*found, oneKey(keys, inUse))
	return nil
}

// maxConnections bounds how many other connections of a database engine are looked at.
const maxConnections = 100

// lookAtOthers looks for other connections of the same engine with the same user: they would be shut
// out, since Vault tells the new password to the one connection alone.
func (x *root) lookAtOthers(ctx context.Context, k rootKind, found *findings) error {
	if k.reset == "" {
		return nil
	}
	const name = "nobody else uses it"
	sharing, unread, err := x.others(ctx, k)
	switch {
	case cred.KindOf(err) == cred.Unavailable:
		return err
	case err != nil:
		found.leave(name, "not looked at: the broker may not list %sconfig; make sure that nothing else signs in as this user", x.at.mount)
	case len(sharing) > 0:
		found.add(name, false, "the connections %s use the same user of the same database and would be shut out: give each its own user", strings.Join(sharing, ", "))
	case unread > 0:
		found.add(name, true, "no other connection that the broker may read has the same user; %d could not be read", unread)
	default:
		found.add(name, true, "no other connection of %s has the same user", strings.TrimSuffix(x.at.mount, "/"))
	}
	return nil
}

// others returns the other connections with the same user, and how many could not be read.
func (x *root) others(ctx context.Context, k rootKind) (sharing []string, unread int, err error) {
	names, err := x.vault.listKeys(ctx, x.at.mount+"config")
	if err != nil {
		return nil, 0, asking("vault.rotate", "to list the connections", err)
	}
	mine, err := x.settings(ctx, k)
	if err != nil {
		return nil, 0, err
	}
	unread = max(len(names)-maxConnections, 0)
	for _, other := range names[:len(names)-unread] {
		if other == x.at.name {
			continue
		}
		theirs, err := x.vault.asBroker(ctx, request{method: "GET", path: x.at.mount + "config/" + other})
		err = asking("vault.rotate", "to read a connection", err)
		switch {
		case cred.KindOf(err) == cred.Unavailable:
			return nil, 0, err
		case err != nil:
			unread++
		case sameUser(mine, answerData(theirs)):
			sharing = append(sharing, other)
		}
	}
	return sharing, unread, nil
}

func sameUser(a, b map[string]any) bool {
	same := func(name string) bool {
		return fmt.Sprint(inside(a, "connection_details."+name)) == fmt.Sprint(inside(b, "connection_details."+name))
	}
	return same("username") && same("connection_url") && same("hosts")
}

// maxLists bounds how many lists of leases are read to count them.
const maxLists = 200

// lookAtLeases counts what the root has made and what lives still: a rotation lets it live.
func (x *root) lookAtLeases(ctx context.Context, k rootKind, found *findings) error {
	if k.trial != "" {
		found.add("live leases", true, "Vault keeps none on a static role: whoever has read its password has to read it again, since the old one ends at once")
		return nil
	}
	path := strings.TrimSuffix(x.at.mount, "/")
	if k.leases != "" {
		path = x.at.below(k.leases)
	}
	n, all, err := x.vault.countLeases(ctx, path)
	if statusOf(err) == http.StatusForbidden && x.cfg.Verify.Path != "" {
		path = x.cfg.Verify.Path
		n, all, err = x.vault.countLeases(ctx, path)
	}
	err = asking("vault.rotate", "to list leases", err)
	switch {
	case cred.KindOf(err) == cred.Unavailable:
		return err
	case err != nil:
		found.leave("live leases", "not counted: the broker may not list the leases of %s", path)
	case !all:
		found.add("live leases", true, "more than %d leases live under %s, which a new root leaves alone", n, path)
	default:
		found.add("live leases", true, "%d leases live under %s, which a new root leaves alone", n, path)
	}
	return nil
}

// countLeases counts the leases below a path; all is false where there are too many lists to read.
func (i *Issuer) countLeases(ctx context.Context, path string) (n int, all bool, err error) {
	open := []string{path + "/"}
	for lists := 0; len(open) > 0; lists++ {
		if lists == maxLists {
			return n, false, nil
		}
		at := open[0]
		open = open[1:]
		names, err := i.listKeys(ctx, "sys/leases/lookup/"+at)
		if err != nil {
			return n, false, err
		}
		for _, name := range names {
			if strings.HasSuffix(name, "/") {
				open = append(open, at+name)
			} else {
				n++
			}
		}
	}
	return n, true, nil
}
