// A gRPC server by grpc-go that says that it lives, echoes the names of models, and streams as many replies as a name
// says. It prints its port, and ends with its standard input.
//
//	GO111MODULE=off GOPATH=/usr/share/gocode go build peer.go   (Debian: golang-go, golang-google-grpc-dev)
package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// raw hands bytes through: the messages are few and small enough to write by hand.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error)      { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error { *v.(*[]byte) = append([]byte{}, data...); return nil }
func (raw) String() string                             { return "raw" }

func field(number uint64, value []byte) []byte {
	var room [20]byte
	at := binary.PutUvarint(room[:], number<<3|2)
	at += binary.PutUvarint(room[at:], uint64(len(value)))
	return append(append([]byte{}, room[:at]...), value...)
}

// modelName reads field 1, which our requests say first.
func modelName(request []byte) (string, error) {
	if len(request) < 2 || request[0] != 1<<3|2 {
		return "", errors.New("no name of a model")
	}
	size, used := binary.Uvarint(request[1:])
	rest := request[1+used:]
	if used <= 0 || uint64(len(rest)) < size {
		return "", errors.New("a name that is cut")
	}
	return string(rest[:size]), nil
}

func handle(_ interface{}, stream grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(stream)
	for {
		var request []byte
		if err := stream.RecvMsg(&request); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		if method == "/inference.GRPCInferenceService/ServerLive" {
			answer := []byte{1 << 3, 1}
			if err := stream.SendMsg(&answer); err != nil {
				return err
			}
			continue
		}
		name, err := modelName(request)
		if err != nil {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		if method == "/inference.GRPCInferenceService/ModelInfer" {
			if name == "no" {
				return status.Error(codes.InvalidArgument, "not ünderstood\n100%")
			}
			answer := field(1, []byte(name))
			if err := stream.SendMsg(&answer); err != nil {
				return err
			}
			continue
		}
		number, err := strconv.Atoi(name)
		if err != nil {
			return status.Error(codes.InvalidArgument, "not a number")
		}
		for i := 0; i < number; i++ {
			reply := field(2, field(3, []byte(strconv.Itoa(i))))
			if err := stream.SendMsg(&reply); err != nil {
				return err
			}
		}
	}
}

func main() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	server := grpc.NewServer(grpc.CustomCodec(raw{}), grpc.UnknownServiceHandler(handle), grpc.MaxRecvMsgSize(1<<26))
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		server.Stop()
	}()
	fmt.Println(listener.Addr().(*net.TCPAddr).Port)
	_ = server.Serve(listener)
}
