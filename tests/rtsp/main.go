// A real RTSP server for tests: whoever publishes on a path is relayed to all who read that path.
package main

import (
	"crypto/tls"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"sync"

	"github.com/bluenviron/gortsplib/v4"
	"github.com/bluenviron/gortsplib/v4/pkg/auth"
	"github.com/bluenviron/gortsplib/v4/pkg/base"
	"github.com/bluenviron/gortsplib/v4/pkg/description"
	"github.com/bluenviron/gortsplib/v4/pkg/format"
	"github.com/pion/rtp"
)

type publication struct {
	stream    *gortsplib.ServerStream
	publisher *gortsplib.ServerSession
}

type relay struct {
	server *gortsplib.Server
	mutex  sync.Mutex
	paths  map[string]publication

	user, password, nonce string
}

func (r *relay) find(path string) (*base.Response, *gortsplib.ServerStream, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	found, ok := r.paths[path]
	if !ok {
		return &base.Response{StatusCode: base.StatusNotFound}, nil, nil
	}
	return &base.Response{StatusCode: base.StatusOK}, found.stream, nil
}

func (r *relay) OnDescribe(ctx *gortsplib.ServerHandlerOnDescribeCtx) (*base.Response, *gortsplib.ServerStream, error) {
	if r.user != "" && auth.Validate(ctx.Request, r.user, r.password, nil, "camera", r.nonce) != nil {
		return &base.Response{
			StatusCode: base.StatusUnauthorized,
			Header: base.Header{
				"WWW-Authenticate": auth.GenerateWWWAuthenticate(
					[]auth.ValidateMethod{auth.ValidateMethodDigestMD5}, "camera", r.nonce),
			},
		}, nil, nil
	}
	return r.find(ctx.Path)
}

func (r *relay) OnSetup(ctx *gortsplib.ServerHandlerOnSetupCtx) (*base.Response, *gortsplib.ServerStream, error) {
	return r.find(ctx.Path)
}

func (r *relay) OnAnnounce(ctx *gortsplib.ServerHandlerOnAnnounceCtx) (*base.Response, error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if former, ok := r.paths[ctx.Path]; ok {
		former.stream.Close()
		former.publisher.Close()
	}
	stream := gortsplib.NewServerStream(r.server, ctx.Description)
	r.paths[ctx.Path] = publication{stream, ctx.Session}
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (r *relay) OnSessionClose(ctx *gortsplib.ServerHandlerOnSessionCloseCtx) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	for path, found := range r.paths {
		if found.publisher == ctx.Session {
			found.stream.Close()
			delete(r.paths, path)
		}
	}
}

func (r *relay) OnPlay(_ *gortsplib.ServerHandlerOnPlayCtx) (*base.Response, error) {
	return &base.Response{StatusCode: base.StatusOK}, nil
}

func (r *relay) OnRecord(ctx *gortsplib.ServerHandlerOnRecordCtx) (*base.Response, error) {
	_, stream, _ := r.find(ctx.Path)
	ctx.Session.OnPacketRTPAny(func(media *description.Media, _ format.Format, packet *rtp.Packet) {
		// A stream that has just been closed takes no more, which is no news.
		_ = stream.WritePacketRTP(media, packet)
	})
	return &base.Response{StatusCode: base.StatusOK}, nil
}

// listenTLS takes TLS off what comes and hands it on to the server.
func listenTLS(address, certificate, key, server string) {
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		log.Fatal(err)
	}
	listener, err := tls.Listen("tcp", address, &tls.Config{Certificates: []tls.Certificate{pair}})
	if err != nil {
		log.Fatal(err)
	}
	for {
		outer, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			defer outer.Close()
			inner, err := net.Dial("tcp", server)
			if err != nil {
				return
			}
			defer inner.Close()
			go func() {
				_, _ = io.Copy(inner, outer)
				_ = inner.Close()
			}()
			_, _ = io.Copy(outer, inner)
		}()
	}
}

func main() {
	address := flag.String("address", "127.0.0.1:8554", "where to listen")
	user := flag.String("user", "", "who may read; empty: everybody")
	password := flag.String("password", "", "that user's")
	tlsAddress := flag.String("tls-address", "", "where to listen for TLS; empty: nowhere")
	udpPort := flag.Int("udp-port", 0, "an even port for RTP over UDP, RTCP has the next; 0: TCP only")
	certificate := flag.String("certificate", "", "what to show there, a file")
	key := flag.String("key", "", "its key, a file")
	flag.Parse()
	nonce, err := auth.GenerateNonce()
	if err != nil {
		log.Fatal(err)
	}
	handler := &relay{paths: map[string]publication{}, user: *user, password: *password, nonce: nonce}
	handler.server = &gortsplib.Server{Handler: handler, RTSPAddress: *address}
	if *udpPort != 0 {
		handler.server.UDPRTPAddress = fmt.Sprintf("127.0.0.1:%d", *udpPort)
		handler.server.UDPRTCPAddress = fmt.Sprintf("127.0.0.1:%d", *udpPort+1)
	}
	if *tlsAddress != "" {
		go listenTLS(*tlsAddress, *certificate, *key, *address)
	}
	log.Fatal(handler.server.StartAndWait())
}
