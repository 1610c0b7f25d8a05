// The chat protocol by way of grpc-go.
//
// Prints "drain" when the server at the first address is to drain, and "passed" at the end.
package main

import (
	"compress/flate"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const (
	method   = "/chat.ChatService/ChatStream"
	refusals = 1000
	patience = 2 * 60 * time.Second
)

// Bytes as they are.
type raw struct{}

func (raw) Name() string                     { return "proto" }
func (raw) Marshal(data any) ([]byte, error) { return data.([]byte), nil }
func (raw) Unmarshal(data []byte, to any) error {
	*to.(*[]byte) = append([]byte(nil), data...)
	return nil
}

// An encoding that the server does not know.
type deflate struct{}

func (deflate) Name() string { return "deflate" }
func (deflate) Compress(to io.Writer) (io.WriteCloser, error) {
	return flate.NewWriter(to, flate.DefaultCompression)
}
func (deflate) Decompress(from io.Reader) (io.Reader, error) { return flate.NewReader(from), nil }

// A ChatMessage, by hand.
func message(username, content string) []byte {
	var bytes []byte
	for number, text := range []string{username, content} {
		bytes = append(bytes, byte(number+1)<<3|2)
		size := len(text)
		for ; size > 127; size >>= 7 {
			bytes = append(bytes, byte(size&127|128))
		}
		bytes = append(append(bytes, byte(size)), text...)
	}
	return bytes
}

// Who said what.
func parse(data []byte) string {
	fields := map[byte]string{}
	for at := 0; at < len(data); {
		number, size := data[at]>>3, 0
		at++
		for shift := 0; ; shift += 7 {
			part := data[at]
			at++
			size |= int(part&127) << shift
			if part < 128 {
				break
			}
		}
		fields[number] = string(data[at : at+size])
		at += size
	}
	return fields[1] + ": " + fields[2]
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func expect(got, expected string) {
	if got != expected {
		panic(fmt.Sprintf("%q instead of %q", got, expected))
	}
}

type stream struct{ grpc.ClientStream }

func open(conn *grpc.ClientConn, room string, options ...grpc.CallOption) stream {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	// The stream ends with its context.
	context.AfterFunc(ctx, cancel)
	if room != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "chat-room", room)
	}
	desc := &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}
	options = append(options, grpc.ForceCodec(raw{}))
	opened, err := conn.NewStream(ctx, desc, method, options...)
	must(err)
	return stream{opened}
}

func enter(conn *grpc.ClientConn, name string, options ...grpc.CallOption) stream {
	entered := open(conn, "", options...)
	entered.say(message(name, ""))
	return entered
}

func (it stream) say(data []byte) {
	// One that has ended is told by its status.
	if err := it.SendMsg(data); err != nil && err != io.EOF {
		panic(err)
	}
}

func (it stream) hear() string {
	var data []byte
	must(it.RecvMsg(&data))
	return parse(data)
}

func (it stream) hears(text string) {
	for it.hear() != text {
	}
}

func (it stream) ended() *status.Status {
	for {
		var data []byte
		switch err := it.RecvMsg(&data); err {
		case nil:
		case io.EOF:
			return status.New(codes.OK, "")
		default:
			return status.Convert(err)
		}
	}
}

func refused(it stream, code codes.Code, text string, data ...[]byte) {
	for _, each := range data {
		it.say(each)
	}
	must(it.CloseSend())
	ended := it.ended()
	if ended.Code() != code || !strings.Contains(ended.Message(), text) {
		panic(fmt.Sprintf("%v instead of %v %q", ended, code, text))
	}
}

func refuse(conn *grpc.ClientConn) {
	const wrong, unread = codes.InvalidArgument, "failed to receive registration: "
	unreadable := []byte{0x0a, 0xff, 0xff}
	eve := message("eve", "")
	for range refusals {
		refused(open(conn, "no room"), wrong, "", eve)
	}
	refused(open(conn, ""), wrong, "username cannot be empty", message(" ", ""))
	refused(open(conn, ""), wrong, "", message("system", ""))
	refused(open(conn, ""), wrong, "", message("e\u202eve", ""))
	refused(open(conn, ""), wrong, unread)
	refused(open(conn, ""), wrong, unread, unreadable)
	taken := `username "BOB" is already taken`
	refused(open(conn, ""), codes.AlreadyExists, taken, message("BOB", ""))
	refused(open(conn, ""), wrong, "16385", eve, message("", strings.Repeat("x", 16385)))
	refused(open(conn, ""), wrong, "", eve, unreadable)
	long := message(strings.Repeat("e", 60), "")
	refused(open(conn, "", grpc.UseCompressor("deflate")), codes.Unimplemented, "", long)
}

func connect(address string) *grpc.ClientConn {
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	must(err)
	return conn
}

func main() {
	encoding.RegisterCompressor(deflate{})
	conn, other := connect(os.Args[1]), connect(os.Args[2])
	alice := enter(conn, "alice")
	news := make(chan string, 1)
	go func() { news <- alice.hear() }()
	var knockers []stream
	for heard := false; !heard; {
		// Nobody is told that they are in but by others who come.
		knockers = append(knockers, enter(other, fmt.Sprintf("knocker %d", len(knockers))))
		select {
		case <-news:
			heard = true
		case <-time.After(500 * time.Millisecond):
		}
	}
	for _, knocker := range knockers {
		must(knocker.CloseSend())
		knocker.ended()
	}
	bob := enter(other, "bob", grpc.UseCompressor("gzip"))
	alice.hears("System: bob joined")
	hello := strings.Repeat("hello ", 100)
	bob.say(message("", hello))
	expect(alice.hear(), "bob: "+hello)
	alice.say(message("", "hi"))
	expect(bob.hear(), "alice: hi")

	refuse(other)
	carol := enter(other, "carol")
	alice.hears("System: carol joined")
	fmt.Println("drain")
	drained := alice.ended()
	expect(drained.Code().String()+": "+drained.Message(), "Unavailable: server is shutting down")
	carol.hears("System: alice left")
	alice = enter(other, "alice")
	carol.hears("System: alice joined")
	for _, it := range []stream{alice, bob, carol} {
		must(it.CloseSend())
		expect(it.ended().Code().String(), "OK")
	}
	fmt.Println("passed")
}
