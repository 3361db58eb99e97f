// The sound of alarms, made in the browser. It is off until a person switches it on; the browser remembers that.

const KEPT = "edgead-sound";
const VOLUME = 0.25;
// In hertz and seconds: the tone of a beep, their number, and the interval.
const TONES = {
  critical: { hertz: 880, length: 0.18, beeps: 3, every: 2.5 },
  warning: { hertz: 523, length: 0.3, beeps: 1, every: 15 },
};
const GESTURES = ["pointerdown", "keydown"];

export class AlarmSound {
  constructor(onChange) {
    this.onChange = onChange;
    this.context = null;
    this.ringing = null;
    this.again = null;
    if (this.wanted) this.wait();
  }

  get wanted() {
    return localStorage.getItem(KEPT) === "on";
  }

  get ready() {
    return this.context?.state === "running";
  }

  // A browser lets a page sound only after somebody has touched it, unless it was started for a kiosk.
  wait() {
    const begin = () => {
      for (const gesture of GESTURES) removeEventListener(gesture, begin);
      if (this.wanted) this.open();
    };
    for (const gesture of GESTURES) addEventListener(gesture, begin);
    this.open();
  }

  async open() {
    this.context ??= new AudioContext();
    await this.context.resume();
    this.onChange();
  }

  async turn(on) {
    localStorage.setItem(KEPT, on ? "on" : "off");
    if (on) await this.test();
    else await this.context?.suspend();
    this.onChange();
  }

  async test() {
    await this.open();
    this.play("critical");
  }

  // Repeats until it gets another severity, or null.
  ring(severity) {
    if (severity === this.ringing) return;
    this.ringing = severity;
    clearInterval(this.again);
    if (!severity) return;
    this.sound();
    this.again = setInterval(() => this.sound(), 1000 * TONES[severity].every);
  }

  sound() {
    if (this.wanted && this.ready) this.play(this.ringing);
  }

  play(severity) {
    const { hertz, length, beeps } = TONES[severity];
    for (let beep = 0; beep < beeps; beep += 1) this.beep(hertz, this.context.currentTime + 2 * beep * length, length);
  }

  beep(hertz, begin, length) {
    const tone = new OscillatorNode(this.context, { frequency: hertz });
    const volume = new GainNode(this.context, { gain: 0 });
    // Faded in and out: a tone that is cut off clicks.
    volume.gain.setTargetAtTime(VOLUME, begin, 0.01);
    volume.gain.setTargetAtTime(0, begin + 0.8 * length, 0.02);
    tone.connect(volume).connect(this.context.destination);
    tone.start(begin);
    tone.stop(begin + length);
  }
}
