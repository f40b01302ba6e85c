// Publishes pictures as faces, and sends each until it is receipted: publish_faces DEVICE CAMERA FACE.jpg...
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/eclipse/paho.golang/paho"
)

func main() {
	device, camera, files := os.Args[1], os.Args[2], os.Args[3:]
	source := device + "/" + camera
	waiting := map[string]*paho.Publish{}
	for _, file := range files {
		image, err := os.ReadFile(file)
		check(err)
		now := time.Now().UTC().Format("2006-01-02T15:04:05.000000Z")
		digest := sha256.Sum256(append([]byte(source+"\n"), image...))
		id := fmt.Sprintf("%s-%x", strings.NewReplacer("-", "", ":", "").Replace(now), digest[:16])
		properties := &paho.PublishProperties{ContentType: "image/jpeg"}
		for _, known := range [][2]string{
			{"specversion", "1.0"}, {"type", "faceferry.face.v1"}, {"source", source}, {"id", id}, {"time", now},
		} {
			properties.User.Add(known[0], known[1])
		}
		waiting[id] = &paho.Publish{Topic: "faceferry/" + source + "/face", QoS: 1, Payload: image, Properties: properties}
	}
	client, receipts := connect(device)
	for wait := 2 * time.Second; len(waiting) > 0; wait = min(10*time.Second, 2*wait) {
		for _, face := range waiting {
			_, err := client.Publish(context.Background(), face)
			check(err)
		}
		for until := time.After(wait); len(waiting) > 0; {
			select {
			case receipt := <-receipts:
				for id, reason := range receipt {
					if waiting[id] != nil {
						fmt.Println(id, reason)
						delete(waiting, id)
					}
				}
				continue
			case <-until:
			}
			break
		}
	}
}

// Returns what comes as receipts, by id: the reason of a refusal, or nothing.
func connect(device string) (*paho.Client, chan map[string]string) {
	address, err := url.Parse(os.Getenv("MQTT_URL"))
	check(err)
	connection, err := net.Dial("tcp", address.Host)
	check(err)
	receipts := make(chan map[string]string, 10)
	client := paho.NewClient(paho.ClientConfig{Conn: connection, OnPublishReceived: []func(paho.PublishReceived) (bool, error){
		func(received paho.PublishReceived) (bool, error) {
			var receipt struct {
				Ids     []string
				Refused map[string]string
			}
			check(json.Unmarshal(received.Packet.Payload, &receipt))
			answers := map[string]string{}
			for _, id := range receipt.Ids {
				answers[id] = ""
			}
			for id, reason := range receipt.Refused {
				answers[id] = reason
			}
			receipts <- answers
			return true, nil
		}}})
	_, err = client.Connect(context.Background(), &paho.Connect{ClientID: "publish-faces", CleanStart: true, KeepAlive: 15})
	check(err)
	for _, kind := range []string{"taken", "stored"} {
		topic := paho.SubscribeOptions{Topic: "faceferry/" + device + "/" + kind, QoS: 1}
		_, err = client.Subscribe(context.Background(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{topic}})
		check(err)
	}
	return client, receipts
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
