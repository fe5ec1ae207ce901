/* Connects to a broker with the client library Eclipse Paho C, subscribes to
 * kept/# and prints how many messages come:
 *
 *     retained URI COUNT [USER PASSWORD]
 *
 * It ends after COUNT messages, or when none comes for twenty seconds. */
#include <MQTTClient.h>
#include <stdio.h>
#include <stdlib.h>

int main(int argc, char **argv) {
	MQTTClient client;
	MQTTClient_connectOptions options = MQTTClient_connectOptions_initializer;
	MQTTClient_connectOptions websocket = MQTTClient_connectOptions_initializer_ws;
	int code, count = 0, wanted;

	if (argc < 3)
		return 2;
	wanted = atoi(argv[2]);
	if (argv[1][0] == 'w')
		options = websocket;
	if (argc > 4) {
		options.username = argv[3];
		options.password = argv[4];
	}
	options.connectTimeout = 20;
	if (MQTTClient_create(&client, argv[1], "paho-c", MQTTCLIENT_PERSISTENCE_NONE, NULL) != MQTTCLIENT_SUCCESS)
		return 2;
	code = MQTTClient_connect(client, &options);
	if (code != MQTTCLIENT_SUCCESS) {
		printf("refused %d\n", code);
		return 1;
	}
	code = MQTTClient_subscribe(client, "kept/#", 1);
	if (code != MQTTCLIENT_SUCCESS) {
		printf("cannot subscribe %d\n", code);
		return 1;
	}
	while (count < wanted) {
		char *topic;
		int length;
		MQTTClient_message *message = NULL;

		code = MQTTClient_receive(client, &topic, &length, &message, 20000);
		if (message == NULL)
			break;
		count++;
		MQTTClient_freeMessage(&message);
		MQTTClient_free(topic);
	}
	printf("%d received, connected %d\n", count, MQTTClient_isConnected(client));
	MQTTClient_disconnect(client, 1000);
	MQTTClient_destroy(&client);
	return 0;
}
