// Worker in a hidden frame: a page that is opened from a folder may not start a real one, and the search needs one.
// What it has to do is what the package iframe-worker does, whose address the plug-in `offline` would load.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.frame = frame;
      const inside = frame.contentWindow;
      inside.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inside.importScripts = async (...addresses) => {
        for (const address of addresses) await load(inside.document, address);
      };
      this.ready = load(inside.document, url);
    }

    postMessage(data) {
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })));
    }

    terminate() {
      this.frame.remove();
    }
  };

  function load(place, address) {
    return new Promise((done, failed) => {
      const script = place.createElement("script");
      script.src = address;
      script.onload = done;
      script.onerror = failed;
      place.body.append(script);
    });
  }
}
