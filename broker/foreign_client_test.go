package broker_test

import (
	"errors"
	"testing"

	mqtt "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"

	"github.com/jmbarzee/dominion/broker"
	"github.com/jmbarzee/dominion/broker/client"
	"github.com/jmbarzee/dominion/topics"
)

// A client that is not ours exchanges messages with one that is, and is refused with a
// return code of MQTT 3.1.1.
func TestForeignClient(t *testing.T) {
	b, urls := listen(t, broker.Config{Listen: "127.0.0.1:0", Users: []broker.User{{Name: "ann", PasswordFile: write(t, "ann", "s3cret\n"), Role: broker.RoleAdmin}}})
	defer stop(t, b)
	wait := func(token mqtt.Token) error { token.Wait(); return token.Error() }
	options := func(password string) *mqtt.ClientOptions {
		return mqtt.NewClientOptions().AddBroker(urls["mqtt"]).SetClientID("foreign").SetUsername("ann").SetPassword(password).SetProtocolVersion(4).SetAutoReconnect(false)
	}
	if err := wait(mqtt.NewClient(options("wrong")).Connect()); !errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) {
		t.Errorf("a wrong password: %v", err)
	}
	foreign := mqtt.NewClient(options("s3cret"))
	if err := wait(foreign.Connect()); err != nil {
		t.Fatal(err)
	}
	received := make(chan string, 2)
	if err := wait(foreign.Subscribe("a/#", 1, func(_ mqtt.Client, m mqtt.Message) { received <- m.Topic() + " " + string(m.Payload()) })); err != nil {
		t.Fatal(err)
	}
	ours, err := client.Connect(t.Context(), client.Options{URL: urls["mqtt"], User: "ann", Password: "s3cret", ClientID: "ours", OnMessage: func(m topics.Message) { received <- m.Topic + " " + string(m.Payload) }})
	if err != nil {
		t.Fatal(err)
	}
	if err := ours.Subscribe(t.Context(), "b/#"); err != nil {
		t.Fatal(err)
	}
	ours.Publish(topics.Message{Topic: "a/1", Payload: []byte("from ours"), QoS: 1})
	if got := <-received; got != "a/1 from ours" {
		t.Errorf("received %q", got)
	}
	if err := wait(foreign.Publish("b/1", 2, false, "from the other")); err != nil {
		t.Error(err)
	}
	if got := <-received; got != "b/1 from the other" {
		t.Errorf("received %q", got)
	}
	ours.Close()
	foreign.Disconnect(1000)
}
