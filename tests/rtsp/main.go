// A real RTSP server for tests: whoever publishes on a path is relayed to all who read that path.
package main

import (
	"flag"
	"log"
	"sync"

	"github.com/bluenviron/gortsplib/v4"
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

func main() {
	address := flag.String("address", "127.0.0.1:8554", "where to listen")
	flag.Parse()
	handler := &relay{paths: map[string]publication{}}
	handler.server = &gortsplib.Server{Handler: handler, RTSPAddress: *address}
	log.Fatal(handler.server.StartAndWait())
}
