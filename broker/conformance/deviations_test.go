package conformance

// What mosquitto 2.0.11 does otherwise. A fault of a test would show here as
// well: each entry was looked at, and says which clause stands against it.
var mosquittoDeviations = func() map[string]string {
	all := map[string]string{
		"5.0 a client id in use moves to the new connection":                                                            "3.1.4-3: the old connection is closed without DISCONNECT 0x8E",
		"5.0 a DISCONNECT of the server is well made, and the last packet":                                              "3.1.4-3: the old connection is closed without DISCONNECT 0x8E",
		"5.0 after PUBREC 0x87 the same id is a new message":                                                            "4.3.3-9: a message that is not allowed is refused and ends the connection",
		"5.0 a member that is away gets nothing while another is there":                                                 "4.8.2 (text): members that are away have their turn like others",
		"5.0 what is too large is not sent from the queue either":                                                       "3.1.2-25: it does not count as sent, so the quota does not come back",
		"5.0 a shared subscription gets no retained messages":                                                           "4.8.2 (text): they are sent",
		"5.0 no local on a shared subscription ends the connection: SUBSCRIBE":                                          "3.8.3-4: it is granted",
		"5.0 the receive maximum holds for what is sent again":                                                          "3.3.4-9: all of it is sent at once",
		"5.0 the server keeps to the client's receive maximum":                                                          "3.3.4-9: with a maximum of 3, five are in flight after the first acknowledgement",
		"5.0 a refused delivery is finished":                                                                            "4.4.0-2: the quota does not come back after a refusal",
		"5.0 the end of the session ends the will delay":                                                                "3.1.2-8: the will waits though the session has ended",
		"5.0 the will is published when the session moves to another connection":                                        "3.1.2-8: the will is dropped",
		"3.1.1 the will is published when the session moves to another connection":                                      "3.1.2-8: the will is dropped",
		"5.0 a clean start ends the session and its will delay":                                                         "3.1.2-8: the will of the discarded session is never sent",
		"5.0 a message that was sent comes again though its expiry has passed":                                          "4.3.3-7: it is dropped",
		"3.1.1 overlapping subscriptions deliver with the highest QoS":                                                  "3.3.5-1: it comes with the QoS of one of them",
		"5.0 no local holds for retained messages":                                                                      "3.8.3-3: retained messages of the client itself are sent",
		"5.0 an authentication method that is not there: data without a method":                                         "3.1.2.11.10: accepted",
		"5.0 response topic and content type are strings without wildcards: " + text(propResponseTopic, "a/+").String(): "3.3.2-14: accepted",
		"5.0 response topic and content type are strings without wildcards: " + text(propResponseTopic, "#").String():   "3.3.2-14: accepted",
		"5.0 properties of CONNECT have their values: will [" + text(propResponseTopic, "a/+").String() + "]":           "3.3.2-14: accepted",
		"5.0 properties of CONNECT have their values: will [" + number(propFormat, 2).String() + "]":                    "3.3.2.3.2: accepted",
		"5.0 properties that PUBLISH cannot have end the connection: [" + number(propSubscriptionID, 1).String() + "]":  "3.3.4-6: accepted",
		"5.0 properties that PUBLISH cannot have end the connection: [" + number(propFormat, 2).String() + "]":          "3.3.2.3.2: accepted",
	}
	for _, share := range []string{"$share/", "$share//a", "$share/x", "$share/x/", "$share/+/a"} {
		all["5.0 share names and filters that cannot be are refused: "+share] = "4.8.2-1, 4.8.2-2: granted"
	}
	for _, row := range []string{"1 0x8", "2 0x4", "4 0xc", "5 0x8"} {
		all["5.0 a replaced subscription has its new options: "+row] = "3.8.4-3: No Local and Retain As Published stay as they were"
	}
	for _, code := range []string{"0x1", "0x42", "0xff"} {
		all["5.0 reason codes of DISCONNECT that a client cannot send: "+code] = "3.14.2-1: taken for a normal disconnection"
	}
	for _, kind := range []string{"PUBACK", "PUBREC", "PUBREL", "PUBCOMP"} {
		all["3.1.1 packets cut or too long end the connection: "+kind+" too long"] = "4.8.0-1: the surplus is left alone"
	}
	both := map[string]string{
		"QoS 2 is delivered once however often it is sent":                "4.3.3: a second duplicate within a connection ends it",
		"a text frame ends the connection":                                "6.0.0-1: it is taken like a binary one",
		"DUP with QoS 0 ends the connection: PUBLISH":                     "3.3.1-2: it is accepted",
		"a filter that is not allowed is answered with failure":           "its ACL file is not asked for subscriptions",
		"packets cut or too long end the connection: PINGREQ with a body": "3.12.1: the surplus is left alone",
	}
	for _, kind := range []string{"SUBACK", "UNSUBACK", "PINGRESP"} {
		both["packets that only a server sends end the connection: "+kind] = "4.8.0-1, 4.13.1-1: passed over"
	}
	for _, row := range []string{"PUBACK 1", "PUBREC 2", "PUBCOMP 8", "PINGREQ 1"} {
		both["reserved flags end the connection: "+row] = "2.2.2-2, 2.1.3-1: accepted"
	}
	for key, why := range both {
		all["3.1.1 "+key], all["5.0 "+key] = why, why
	}
	return all
}()

// What our engine does otherwise. It must become empty and stay so.
var engineDeviations = map[string]string{}
