# SPDX-License-Identifier: BSL-1.0
"""Paho's client: says hello to to/rejoin with each QoS, and sends there what it hears at to/paho, until that is "stop"."""
import sys

import paho.mqtt.client as mqtt

protocol = mqtt.MQTTv5 if sys.argv[2] == "5" else mqtt.MQTTv311
arguments = {"client_id": "paho", "protocol": protocol}
if hasattr(mqtt, "CallbackAPIVersion"):  # Paho 2
    arguments["callback_api_version"] = mqtt.CallbackAPIVersion.VERSION1
client = mqtt.Client(**arguments)


def subscribed(client, *_):
    for qos in range(3):
        client.publish("to/rejoin", f"hello {qos}", qos)


def heard(client, _, message):
    if message.payload == b"stop":
        client.disconnect()
    else:
        client.publish("to/rejoin", message.payload, message.qos)


client.on_connect = lambda client, *_: client.subscribe("to/paho", 2)
client.on_subscribe = subscribed
client.on_message = heard
client.connect("127.0.0.1", int(sys.argv[1]))
client.loop_forever()
