package kafka

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"
)

// The ways to log in.
const (
	Plain       = "PLAIN"
	ScramSHA256 = "SCRAM-SHA-256"
	ScramSHA512 = "SCRAM-SHA-512"
)

// dialTimeout bounds the connection to one address, TLS included.
const dialTimeout = 3 * time.Second

// dial connects to a broker, by TLS if the options say so. Certificates are read
// again for each connection.
func (o *Options) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	if !o.TLS {
		return conn, nil
	}
	config, err := o.tlsConfig(address)
	if err != nil {
		_ = conn.Close() // nothing was sent on it
		return nil, err
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		_ = conn.Close() // the handshake's error tells more
		if record := (tls.RecordHeaderError{}); errors.As(err, &record) {
			return nil, fmt.Errorf("TLS with %s: the listener does not speak TLS: %w", address, err)
		}
		if errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("TLS with %s: the listener closed the connection, as one does that does not speak TLS: %w", address, err)
		}
		return nil, fmt.Errorf("TLS with %s: %w", address, err)
	}
	return secure, nil
}

// tlsConfig reads the certificates. Its errors never repeat their text.
func (o *Options) tlsConfig(address string) (*tls.Config, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, fmt.Errorf("address %q: want host:port", address)
	}
	config := &tls.Config{ServerName: host, MinVersion: tls.VersionTLS12}
	if ca := o.TLSCA.text(); ca != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(ca)) {
			return nil, errors.New("certificate authority: no certificate in it; want PEM")
		}
	}
	if cert := o.TLSCert.text(); cert != "" {
		pair, err := tls.X509KeyPair([]byte(cert), []byte(o.TLSKey.text()))
		if err != nil {
			return nil, fmt.Errorf("client certificate and key: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// login is a SASL mechanism that reads its password again for each connection.
type login struct{ o *Options }

func (l login) Name() string { return l.o.Mechanism }

func (l login) Start(ctx context.Context) (sasl.StateMachine, []byte, error) {
	user, password := l.o.Username, l.o.Password.text()
	var m sasl.Mechanism
	var err error
	switch l.o.Mechanism {
	case Plain:
		m = plain.Mechanism{Username: user, Password: password}
	case ScramSHA256:
		m, err = scram.Mechanism(scram.SHA256, user, password)
	default:
		m, err = scram.Mechanism(scram.SHA512, user, password)
	}
	if err != nil { // it may quote the password
		return nil, nil, errors.New("user name or password cannot be used with SCRAM")
	}
	return m.Start(ctx)
}
