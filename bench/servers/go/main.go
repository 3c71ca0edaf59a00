// gorilla/websocket: the echo is that of its example `echo`, the broadcast that of its example `chat`. Nothing is tuned
// but the limit.
package main

import (
	"fmt"
	"log"
	"net"
	"net/http"

	"github.com/gorilla/websocket"
)

// The longest message that is taken: 16 MiB.
const maxMessageSize = 16 << 20

var upgrader = websocket.Upgrader{}

func main() {
	hub := newHub()
	go hub.run()
	http.HandleFunc("/echo", echo)
	http.HandleFunc("/broadcast", func(w http.ResponseWriter, r *http.Request) { broadcast(hub, w, r) })

	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("listening on %s\n", listener.Addr())
	log.Fatal(http.Serve(listener, nil))
}

func upgrade(w http.ResponseWriter, r *http.Request) (*websocket.Conn, error) {
	conn, err := upgrader.Upgrade(w, r, nil)
	if err == nil {
		conn.SetReadLimit(maxMessageSize)
	}
	return conn, err
}

func echo(w http.ResponseWriter, r *http.Request) {
	conn, err := upgrade(w, r)
	if err != nil {
		return
	}
	defer conn.Close()
	for {
		messageType, data, err := conn.ReadMessage()
		if err != nil {
			return
		}
		if err := conn.WriteMessage(messageType, data); err != nil {
			return
		}
	}
}

type message struct {
	messageType int
	data        []byte
}

type client struct {
	conn *websocket.Conn
	send chan message
}

// A hub knows who is connected, and sends to all of them.
type hub struct {
	clients    map[*client]bool
	broadcast  chan message
	register   chan *client
	unregister chan *client
}

func newHub() *hub {
	return &hub{
		clients:    make(map[*client]bool),
		broadcast:  make(chan message),
		register:   make(chan *client),
		unregister: make(chan *client),
	}
}

func (h *hub) run() {
	for {
		select {
		case client := <-h.register:
			h.clients[client] = true
		case client := <-h.unregister:
			if h.clients[client] {
				delete(h.clients, client)
				close(client.send)
			}
		case message := <-h.broadcast:
			for client := range h.clients {
				select {
				case client.send <- message:
				default:
					delete(h.clients, client)
					close(client.send)
				}
			}
		}
	}
}

func broadcast(h *hub, w http.ResponseWriter, r *http.Request) {
	conn, err := upgrade(w, r)
	if err != nil {
		return
	}
	client := &client{conn: conn, send: make(chan message, 256)}
	h.register <- client
	go client.writePump()
	client.readPump(h)
}

func (c *client) readPump(h *hub) {
	defer func() {
		h.unregister <- c
		c.conn.Close()
	}()
	for {
		messageType, data, err := c.conn.ReadMessage()
		if err != nil {
			return
		}
		h.broadcast <- message{messageType, data}
	}
}

func (c *client) writePump() {
	defer c.conn.Close()
	for message := range c.send {
		if err := c.conn.WriteMessage(message.messageType, message.data); err != nil {
			return
		}
	}
}
