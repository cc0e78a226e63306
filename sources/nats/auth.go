package nats

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nkeys"
)

// How connections are kept. The library's own values give up after two minutes,
// notice a dead peer after four to six, and send requests that were made while
// disconnected long after their callers have gone.
const (
	dialTimeout   = 2 * time.Second
	reconnectWait = 250 * time.Millisecond
	pingInterval  = 5 * time.Second
	pingsLost     = 2
)

// dialOptions turns the options into the library's. What is secret is read
// again at each connect, but for the public key of an nkey, which the library
// fixes per connection: see link.
func (o *Options) dialOptions() ([]natsgo.Option, error) {
	opts := []natsgo.Option{
		natsgo.Name("ssebridge"),
		natsgo.Timeout(dialTimeout),
		natsgo.MaxReconnects(-1),
		natsgo.RetryOnFailedConnect(true),
		natsgo.ReconnectWait(reconnectWait),
		natsgo.ReconnectJitter(reconnectWait, reconnectWait),
		natsgo.PingInterval(pingInterval),
		natsgo.MaxPingsOutstanding(pingsLost),
		natsgo.ReconnectBufSize(-1),   // a request made while disconnected fails at once
		natsgo.IgnoreAuthErrorAbort(), // credentials may be rotated late
	}
	if o.InboxPrefix != "" {
		opts = append(opts, natsgo.CustomInboxPrefix(o.InboxPrefix))
	}
	switch {
	case o.Creds != nil:
		if _, err := o.jwt(); err != nil {
			return nil, err
		}
		if _, err := o.sign(nil); err != nil {
			return nil, err
		}
		opts = append(opts, natsgo.UserJWT(o.jwt, o.sign))
	case o.Nkey != nil:
		key, err := o.publicKey()
		if err != nil {
			return nil, err
		}
		opts = append(opts, natsgo.Nkey(key, o.sign))
	case o.User != "":
		opts = append(opts, natsgo.UserInfoHandler(func() (string, string) { return o.User, o.Password.text() }))
	case o.Token != nil:
		opts = append(opts, natsgo.TokenHandler(o.Token.text))
	}
	return o.tlsOptions(opts)
}

func (o *Options) tlsOptions(opts []natsgo.Option) ([]natsgo.Option, error) {
	var cert natsgo.TLSCertHandler
	var roots natsgo.RootCAsHandler
	if o.TLSCert != nil {
		cert = o.certificate
		if _, err := cert(); err != nil {
			return nil, err
		}
	}
	if o.TLSCA != nil {
		roots = o.roots
		if _, err := roots(); err != nil {
			return nil, err
		}
	}
	if cert != nil || roots != nil {
		opts = append(opts, natsgo.ClientTLSConfig(cert, roots))
	}
	return opts, nil
}

// The errors below never repeat the text that could not be read: it is secret.

func (o *Options) jwt() (string, error) {
	jwt, err := nkeys.ParseDecoratedJWT([]byte(o.Creds.text()))
	if err != nil || jwt == "" {
		return "", errors.New("creds: no user JWT in them; want the text of a .creds file")
	}
	return jwt, nil
}

// keyPair reads the seed, from the creds or the nkey. The caller wipes it.
func (o *Options) keyPair() (nkeys.KeyPair, error) {
	if o.Creds != nil {
		kp, err := nkeys.ParseDecoratedUserNKey([]byte(o.Creds.text()))
		if err != nil {
			return nil, errors.New("creds: no user seed in them; want the text of a .creds file")
		}
		return kp, nil
	}
	kp, err := nkeys.ParseDecoratedNKey([]byte(o.Nkey.text()))
	if err != nil {
		return nil, errors.New("nkey: not a seed; want the seed of a user, SU…")
	}
	return kp, nil
}

func (o *Options) publicKey() (string, error) {
	kp, err := o.keyPair()
	if err != nil {
		return "", err
	}
	defer kp.Wipe()
	key, err := kp.PublicKey()
	if err != nil || !nkeys.IsValidPublicUserKey(key) {
		return "", errors.New("nkey: not a user's; want the seed of a user, SU…")
	}
	return key, nil
}

func (o *Options) sign(nonce []byte) ([]byte, error) {
	kp, err := o.keyPair()
	if err != nil {
		return nil, err
	}
	defer kp.Wipe()
	return kp.Sign(nonce)
}

func (o *Options) certificate() (tls.Certificate, error) {
	c, err := tls.X509KeyPair([]byte(o.TLSCert.text()), []byte(o.TLSKey.text()))
	if err != nil {
		return c, fmt.Errorf("client certificate and key: %w", err)
	}
	return c, nil
}

func (o *Options) roots() (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM([]byte(o.TLSCA.text())) {
		return nil, errors.New("certificate authority: no certificate in it; want PEM")
	}
	return pool, nil
}
