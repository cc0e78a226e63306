package kafkatest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// The user of a secure cluster's SASL listener, by every mechanism. It may do
// nothing until it is granted.
const (
	User     = "reader"
	Password = "planted-secret-kafka" // see the package secrettest
)

// Secure is how to reach the listeners of a cluster that want to know who comes.
type Secure struct {
	SASL []string // SASL over plaintext: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512
	TLS  []string // TLS; wants a client's certificate

	CA        string // PEM: signs all certificates
	Cert, Key string // PEM: of a client, who is User:CN=client
	// ForeignCert and ForeignKey are of a client whom nobody has signed.
	ForeignCert, ForeignKey string

	dir string
}

// newSecure makes certificates.
func newSecure(dir string) (*Secure, error) {
	s := &Secure{dir: dir}
	ca, err := newIssuer("ssebridge test authority", nil)
	if err != nil {
		return nil, err
	}
	broker, err := newIssuer("broker", ca)
	if err != nil {
		return nil, err
	}
	client, err := newIssuer("client", ca)
	if err != nil {
		return nil, err
	}
	foreign, err := newIssuer("client", nil)
	if err != nil {
		return nil, err
	}
	s.CA, s.Cert, s.Key = ca.cert, client.cert, client.key
	s.ForeignCert, s.ForeignKey = foreign.cert, foreign.key
	if err := os.WriteFile(s.file("broker.pem"), []byte(broker.key+broker.cert), 0o600); err != nil {
		return nil, fmt.Errorf("write the broker's certificate: %w", err)
	}
	if err := os.WriteFile(s.file("ca.pem"), []byte(ca.cert), 0o600); err != nil {
		return nil, fmt.Errorf("write the authority's certificate: %w", err)
	}
	return s, nil
}

func (s *Secure) file(name string) string { return filepath.Join(s.dir, name) }

// settings are the broker's.
func (s *Secure) settings() []string {
	const scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	return []string{
		"sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
		"listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_" + User + "=\"" + Password + "\";",
		"listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=" + scram,
		"listener.name.sasl_plaintext.scram-sha-512.sasl.jaas.config=" + scram,
		"ssl.keystore.type=PEM", "ssl.keystore.location=" + s.file("broker.pem"),
		"ssl.truststore.type=PEM", "ssl.truststore.location=" + s.file("ca.pem"),
		"ssl.client.auth=required", "ssl.endpoint.identification.algorithm=",
		"authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer",
		"super.users=User:ANONYMOUS",
	}
}

// formatArgs make the SCRAM user.
func (s *Secure) formatArgs() []string {
	return []string{
		"--add-scram", fmt.Sprintf("SCRAM-SHA-256=[name=%s,password=%s]", User, Password),
		"--add-scram", fmt.Sprintf("SCRAM-SHA-512=[name=%s,password=%s]", User, Password),
	}
}

// issuer is a certificate with its key.
type issuer struct {
	x509      *x509.Certificate
	private   *ecdsa.PrivateKey
	cert, key string // PEM
}

// newIssuer makes a certificate signed by another, or by itself.
func newIssuer(name string, by *issuer) (*issuer, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a key: %w", err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	cert := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IsCA:        by == nil, BasicConstraintsValid: true,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"localhost"},
	}
	i := &issuer{x509: cert, private: key}
	if by == nil {
		by = i
	}
	der, err := x509.CreateCertificate(rand.Reader, cert, by.x509, &key.PublicKey, by.private)
	if err != nil {
		return nil, fmt.Errorf("make a certificate: %w", err)
	}
	if i.x509, err = x509.ParseCertificate(der); err != nil {
		return nil, fmt.Errorf("read a certificate: %w", err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("write a key: %w", err)
	}
	i.cert = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	i.key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	return i, nil
}
