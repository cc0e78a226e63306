package bridge

import "testing"

// Ids, variables and subjects rely on what a stream's name cannot hold.
func TestStreamNamesKeepToTheirGrammar(t *testing.T) {
	for name, want := range map[string]bool{
		"a": true, "orders": true, "orders-eu_2": true, "a-": true,
		"": false, "Orders": false, "2nd": false, "-a": false, "_a": false,
		"a.b": false, "a~b": false, "a b": false, "größe": false, "a\n": false,
	} {
		if err := ValidStreamName(name); (err == nil) != want {
			t.Errorf("ValidStreamName(%q) = %v, want valid: %v", name, err, want)
		}
	}
}
