package audit

import (
	"slices"
	"strings"
)

// The OCSF classes that our events belong to (class_uid; its thousands are the category).
const (
	ocsfBaseEvent        = 0
	ocsfAccountChange    = 3001
	ocsfAuthentication   = 3002
	ocsfAuthorizeSession = 3003
	ocsfUserAccess       = 3005
	ocsfLifecycle        = 6002
	ocsfAPIActivity      = 6003
	ocsfDatastore        = 6005
)

// Values that all classes share.
const (
	ocsfOther = 99

	ocsfInformational = 1 // severity_id
	ocsfLow           = 2
	ocsfMedium        = 3
	ocsfHigh          = 4
	ocsfCritical      = 5

	ocsfStatusUnknown = 0 // status_id
	ocsfSuccess       = 1
	ocsfFailure       = 2
)

type ocsfClass struct {
	class, activity, severity, status int
	statusText                        string // for a status that is none of OCSF's
}

// ocsfClassOf maps an event. A kind that is not known here is a base event, activity Other.
func ocsfClassOf(e Event) ocsfClass {
	const (
		logon, serviceTicket            = 1, 4 // of authentication
		assignPrivileges, revoke        = 1, 2 // of authorize_session and user_access
		passwordChange                  = 3    // of account_change
		lifecycleStart, lifecycleUpdate = 3, 8
	)
	fine := func(class, activity int) ocsfClass {
		return ocsfClass{class, activity, ocsfInformational, ocsfSuccess, ""}
	}
	failed := func(class, activity, severity int) ocsfClass {
		return ocsfClass{class, activity, severity, ocsfFailure, ""}
	}
	underWay := func(class, activity int) ocsfClass {
		return ocsfClass{class, activity, ocsfInformational, ocsfOther, "In progress"}
	}
	switch e.Kind {
	case IdentityRefused:
		return failed(ocsfAuthentication, logon, ocsfMedium)
	case ExchangeDenied:
		return failed(ocsfAuthentication, serviceTicket, ocsfLow)
	case RedeemRefused:
		return failed(ocsfAuthentication, serviceTicket, ocsfMedium)
	case ExchangeGranted:
		c := fine(ocsfAuthorizeSession, assignPrivileges)
		if e.Decision != nil && e.Decision.Exempt == "break_glass" { // a review is owed
			c.severity = ocsfMedium
		}
		return c
	case ExchangePending:
		return underWay(ocsfAuthorizeSession, assignPrivileges)
	case RequestReviewed, StandingReviewed:
		if slices.ContainsFunc(e.Approvals, func(a Approval) bool { return !a.Approve }) {
			return failed(ocsfUserAccess, assignPrivileges, ocsfLow)
		}
		return fine(ocsfUserAccess, assignPrivileges)
	case ReviewSignedOff, LockLifted:
		return fine(ocsfUserAccess, assignPrivileges)
	case StandingProposed:
		return underWay(ocsfUserAccess, assignPrivileges)
	case ReviewRefused:
		return failed(ocsfUserAccess, assignPrivileges, ocsfMedium)
	case ReviewOverdue:
		return failed(ocsfUserAccess, assignPrivileges, ocsfHigh)
	case StandingRevoked:
		return fine(ocsfUserAccess, revoke)
	case LockSet:
		c := fine(ocsfUserAccess, revoke)
		c.severity = ocsfMedium
		return c
	case NoticeSent:
		return fine(ocsfAPIActivity, ocsfOther)
	case NoticeFailed:
		return failed(ocsfAPIActivity, ocsfOther, ocsfMedium)
	case AccessDenied:
		return failed(ocsfAPIActivity, ocsfOther, ocsfMedium)
	case AuditExported:
		return fine(ocsfAPIActivity, apiActivityOf("GET"))
	case LeaseIntent, LeaseRenewing, OwnIntent:
		return underWay(ocsfUserAccess, assignPrivileges)
	case LeaseIssued, LeaseRenewed, OwnIssued:
		return fine(ocsfUserAccess, assignPrivileges)
	case LeaseFailed, LeaseNotRenewed, OwnFailed:
		return failed(ocsfUserAccess, assignPrivileges, ocsfLow)
	case LeaseMissing:
		return ocsfClass{ocsfUserAccess, revoke, ocsfMedium, ocsfSuccess, ""}
	case LeaseUnknown, LeaseStray, LeaseDoubted:
		return ocsfClass{ocsfUserAccess, revoke, ocsfHigh, ocsfStatusUnknown, ""}
	case OwnUnknown: // nobody has it, and it ends by itself
		return ocsfClass{ocsfUserAccess, assignPrivileges, ocsfMedium, ocsfStatusUnknown, ""}
	case AlarmRaised:
		return failed(ocsfUserAccess, assignPrivileges, ocsfCritical)
	case LeaseRevoking, OwnRevoking:
		return underWay(ocsfUserAccess, revoke)
	case LeaseRevoked, LeaseExpired, GrantRevoked, GrantExpired, OwnRevoked:
		return fine(ocsfUserAccess, revoke)
	case UseBegin, UseEnd, UseRefused, UseLost:
		return ocsfUseClass(e)
	case RotationStep:
		c := fine(ocsfAccountChange, passwordChange)
		if e.Error != nil {
			c = failed(ocsfAccountChange, passwordChange, ocsfHigh)
		}
		return c
	case BrokerStarted, ProxyStarted:
		return fine(ocsfLifecycle, lifecycleStart)
	case PolicyLoaded, KeyRotated:
		return fine(ocsfLifecycle, lifecycleUpdate)
	case PolicyRefused:
		return failed(ocsfLifecycle, lifecycleUpdate, ocsfHigh)
	}
	return ocsfClass{ocsfBaseEvent, ocsfOther, ocsfInformational, ocsfStatusUnknown, ""}
}

func ocsfUseClass(e Event) ocsfClass {
	use := Use{}
	if e.Use != nil {
		use = *e.Use
	}
	c := ocsfClass{ocsfAPIActivity, apiActivityOf(use.Method), ocsfInformational, ocsfSuccess, ""}
	if use.Protocol == "postgres" || use.Protocol == "redis" {
		c.class, c.activity = ocsfDatastore, datastoreActivityOf(use.Method)
	}
	switch {
	case e.Kind == UseRefused:
		c.severity, c.status = ocsfMedium, ocsfFailure
	case e.Kind == UseLost:
		c.severity, c.status = ocsfMedium, ocsfStatusUnknown
	case e.Kind == UseBegin:
		c.status, c.statusText = ocsfOther, "In progress"
	case use.Status >= 400 || use.Ended != "" && use.Ended != "complete":
		c.severity, c.status = ocsfLow, ocsfFailure
	}
	return c
}

func apiActivityOf(method string) int {
	switch strings.ToUpper(method) {
	case "POST":
		return 1 // Create
	case "GET", "HEAD", "OPTIONS":
		return 2 // Read
	case "PUT", "PATCH":
		return 3 // Update
	case "DELETE":
		return 4 // Delete
	}
	return ocsfOther
}

func datastoreActivityOf(method string) int {
	switch strings.ToUpper(method) {
	case "", "CONNECT":
		return 3 // Connect
	}
	return 4 // Query
}
