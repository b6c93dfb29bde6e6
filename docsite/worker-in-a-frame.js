// A page that is read from a disk may start no worker: a browser takes the file for another origin (HTML Standard,
// "Dedicated workers"; RFC 6454, section 4). Such a page gets a Worker that runs its script in a hidden frame instead.
// The search needs it.
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.onmessage = this.onerror = null
      this.waiting = []
      this.frame = document.createElement("iframe")
      this.frame.hidden = true
      this.frame.srcdoc = "<!doctype html><title>worker</title>"
      this.frame.addEventListener("load", () => this.begin(new URL(url, location.href).href), { once: true })
      document.documentElement.append(this.frame)
    }

    begin(url) {
      const inside = this.frame.contentWindow
      let imports = Promise.resolve()
      const load = (address) =>
        new Promise((done, failed) => {
          const script = inside.document.createElement("script")
          script.src = new URL(address, url).href
          script.onload = done
          script.onerror = () => failed(new Error(`${address} cannot be read`))
          inside.document.body.append(script)
        })
      inside.postMessage = (data) => this.tell("message", { data })
      inside.importScripts = (...addresses) => {
        for (const address of addresses) imports = imports.then(() => load(address))
        return imports
      }
      load(url).then(
        () => {
          const messages = this.waiting
          this.waiting = null
          messages.forEach((data) => this.pass(data))
        },
        (error) => this.tell("error", { data: error })
      )
    }

    tell(kind, content) {
      const event = new MessageEvent(kind, content)
      this.dispatchEvent(event)
      if (this[`on${kind}`]) this[`on${kind}`](event)
    }

    postMessage(data) {
      if (this.waiting) this.waiting.push(data)
      else this.pass(data)
    }

    pass(data) {
      const inside = this.frame.contentWindow
      setTimeout(() => inside.dispatchEvent(new inside.MessageEvent("message", { data })))
    }

    terminate() {
      this.frame.remove()
    }
  }
}
