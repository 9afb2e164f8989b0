// The WebSocket: JSON both ways, pictures as binary messages (docs/serving.md).

const query = new URLSearchParams(location.search);
export const token = query.get("token");

export function address(path, more = {}) {
  const url = new URL(path, location.href);
  url.search = new URLSearchParams(token ? { ...more, token } : more);
  return url;
}

export class Link {
  constructor(hear) {
    const url = address("v1/world");
    url.protocol = url.protocol.replace("http", "ws");
    this.socket = new WebSocket(url);
    this.socket.binaryType = "arraybuffer";
    this.ended = false;
    this.socket.onmessage = ({ data }) => this.ended || hear(typeof data === "string" ? JSON.parse(data) : unpack(data));
    this.socket.onclose = ({ reason, code }) => this.ended || hear({ type: "gone", reason: reason || `code ${code}` });
    this.opened = new Promise((done, fail) => {
      this.socket.onopen = done;
      this.socket.onerror = () => fail(new Error("the server cannot be reached, or wants a token"));
    });
  }

  say(type, fields = {}) {
    if (this.socket.readyState === WebSocket.OPEN) this.socket.send(JSON.stringify({ type, ...fields }));
  }

  close() {
    this.ended = true;
    this.socket.close();
  }
}

function unpack(data) {
  const size = new DataView(data).getUint32(0);
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(data, 4, size)));
  let at = 4 + size;
  head.pictures = head.sizes.map((length) => {
    const part = new Blob([new Uint8Array(data, at, length)], { type: "image/jpeg" });
    at += length;
    return part;
  });
  return head;
}
