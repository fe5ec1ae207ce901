package topics

import (
	"strings"
	"testing"
)

// pubSubClient is MQTT_MAX_PACKET_SIZE of Arduino's PubSubClient: a longer packet
// that comes is dropped without a word.
const pubSubClient = 256

var (
	longestName = strings.Repeat("a", 63)
	// longestIP is the longest endpoint that has no host name.
	longestIP = "[fe80:1111:2222:3333:4444:5555:255.255.255.255%" + strings.Repeat("z", 32) + "]:65535"
)

// packetSize is the size of the PUBLISH, at QoS 1, that carries the best endpoint
// of a service.
func packetSize(prefix, service, endpoint string) int {
	const fixed, remaining, topicLength, identifier = 1, 2, 2, 2
	topic := Tree{prefix}.Service(ServiceEndpoint, service)
	return fixed + remaining + topicLength + len(topic) + identifier + len(endpoint)
}

func TestWhatMicrocontrollersReadIsShort(t *testing.T) {
	if !ValidName(longestName) || ValidName(longestName+"a") || !ValidEndpoint(longestIP) {
		t.Fatal("these are not the longest")
	}
	if n := packetSize(DefaultPrefix, longestName, longestIP); n > pubSubClient {
		t.Errorf("the longest endpoint by IP address takes %d bytes", n)
	}
	tree := NewTree("")
	for _, topic := range []string{tree.Hub(HubAvailability), tree.Domain(DomainAvailability, longestName)} {
		if n := 7 + len(topic) + len(Offline); n > pubSubClient {
			t.Errorf("%s takes %d bytes", topic, n)
		}
	}
}
