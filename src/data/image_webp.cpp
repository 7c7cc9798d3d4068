#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "base/check.h"
#include "data/image_codecs.h"

namespace facet {
namespace {

struct DeleteDemuxer {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};

// The first frame of a file that must be whole; a still image is one frame.
class WebPFrame {
 public:
  explicit WebPFrame(std::string_view bytes) {
    const WebPData data{reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()};
    WebPBitstreamFeatures
        features;  // of the first header, with which the demuxer is content too soon
    if (WebPGetFeatures(data.bytes, data.size, &features) != VP8_STATUS_OK) return;
    demuxer_.reset(WebPDemux(&data));
    found_ = demuxer_ && WebPDemuxGetFrame(demuxer_.get(), 1, &frame_);
  }
  ~WebPFrame() {
    if (found_) WebPDemuxReleaseIterator(&frame_);
  }
  WebPFrame(const WebPFrame&) = delete;
  WebPFrame& operator=(const WebPFrame&) = delete;

  bool found() const { return found_; }
  int64_t canvas_width() const { return WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_WIDTH); }
  int64_t canvas_height() const { return WebPDemuxGetI(demuxer_.get(), WEBP_FF_CANVAS_HEIGHT); }

  // out: (canvas height, canvas width, 3). What the frame does not cover is left as it is.
  bool decode(uint8_t* out, size_t bytes) const {
    if (frame_.x_offset + frame_.width > canvas_width() ||
        frame_.y_offset + frame_.height > canvas_height())
      return false;
    const int64_t stride = 3 * canvas_width();
    const int64_t begin = frame_.y_offset * stride + 3 * frame_.x_offset;
    return WebPDecodeRGBInto(frame_.fragment.bytes, frame_.fragment.size, out + begin,
                             bytes - static_cast<size_t>(begin), static_cast<int>(stride));
  }

 private:
  std::unique_ptr<WebPDemuxer, DeleteDemuxer> demuxer_;
  WebPIterator frame_{};
  bool found_ = false;
};

}  // namespace

void decode_webp(std::string_view bytes, const std::string& name, int64_t max_pixels,
                 RowSink& sink) {
  const WebPFrame frame(bytes);
  CHECK(frame.found(), ExitCode::kBadData, "{}: damaged or truncated WebP", name);
  RgbImage image{frame.canvas_width(), frame.canvas_height(), {}};
  check_pixel_limit(image.width, image.height, max_pixels, name);
  image.pixels.resize(static_cast<size_t>(3 * image.width * image.height));
  CHECK(frame.decode(image.pixels.data(), image.pixels.size()), ExitCode::kBadData,
        "{}: damaged WebP", name);
  send_rows(image, sink);
}

}  // namespace facet
