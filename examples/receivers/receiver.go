// SPDX-License-Identifier: BSL-1.0

// Takes connections that are pushed to it: go run receiver.go PATH. With the standard library alone.
//
// Greets on each connection, and sends back whatever comes. include/rejoin/handoff/README.md has the protocol.
package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

type offer struct {
	Rejoin string
	ID     uint64
	Note   string
	Unread string
	file   *os.File
}

type line struct {
	Cmd    string
	Msg    offer
	Rejoin string
	ID     uint64
}

func serve(o offer) {
	connection, err := net.FileConn(o.file)
	o.file.Close()
	if err != nil {
		return
	}
	defer connection.Close()
	unread, _ := base64.StdEncoding.DecodeString(o.Unread)
	fmt.Fprintf(connection, "hello from Go, %s\n%s", o.Note, unread)
	io.Copy(connection, connection)
}

func channel(c *net.UnixConn) {
	defer c.Close()
	accepted := map[uint64]offer{}
	var buffer []byte
	var descriptors []int
	data, control := make([]byte, 65536), make([]byte, syscall.CmsgSpace(4))
	for {
		n, nc, _, _, err := c.ReadMsgUnix(data, control)
		if messages, _ := syscall.ParseSocketControlMessage(control[:nc]); err == nil {
			for _, m := range messages {
				if fds, err := syscall.ParseUnixRights(&m); err == nil {
					descriptors = append(descriptors, fds...)
				}
			}
		}
		if err != nil || n == 0 {
			break
		}
		buffer = append(buffer, data[:n]...)
		for {
			end := bytes.IndexByte(buffer, '\n')
			if end < 0 {
				break
			}
			var l line
			if json.Unmarshal(buffer[:end], &l) != nil {
				return
			}
			buffer = buffer[end+1:]
			if l.Cmd == "NODE_HANDLE" && len(descriptors) > 0 { // OFFER: touched only when it is committed
				l.Msg.file = os.NewFile(uintptr(descriptors[0]), "pushed")
				descriptors = descriptors[1:]
				accepted[l.Msg.ID] = l.Msg
				c.Write([]byte("{\"cmd\":\"NODE_HANDLE_ACK\"}\n"))
			} else if o, known := accepted[l.ID]; known {
				delete(accepted, l.ID)
				if l.Rejoin == "commit" {
					go serve(o)
				} else {
					o.file.Close()
				}
			}
		}
	}
	for _, o := range accepted { // the sender died, and took nothing back
		go serve(o)
	}
}

func main() {
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: os.Args[1], Net: "unix"})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println("listening")
	for {
		c, err := listener.AcceptUnix()
		if err != nil {
			os.Exit(1)
		}
		go channel(c)
	}
}
