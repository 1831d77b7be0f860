/** The page's settings: which devices to use, and whether a key says when one speaks. */

import { element } from "./dom.js";
import * as memory from "./memory.js";

/** Not every browser lets a page choose where its sound goes. */
const CHOOSES_LOUDSPEAKER = "setSinkId" in AudioContext.prototype;

/**
 * @typedef {object} Listener What to do with a new choice at once.
 * @property {(device: string) => void} microphone
 * @property {(device: string) => void} loudspeaker
 * @property {(isOn: boolean) => void} pushToTalk
 */

export class Settings {
  #microphone = element("microphone", HTMLSelectElement);
  #loudspeaker = element("loudspeaker", HTMLSelectElement);

  /** @param {Listener} listener */
  constructor(listener) {
    const push = element("push", HTMLInputElement);
    push.checked = memory.choices().pushToTalk;
    push.addEventListener("change", () => {
      memory.choose({ pushToTalk: push.checked });
      listener.pushToTalk(push.checked);
    });
    this.#microphone.addEventListener("change", () => {
      memory.choose({ microphone: this.#microphone.value });
      listener.microphone(this.#microphone.value);
    });
    this.#loudspeaker.addEventListener("change", () => {
      memory.choose({ loudspeaker: this.#loudspeaker.value });
      listener.loudspeaker(this.#loudspeaker.value);
    });
    element("loudspeaker-choice", HTMLElement).hidden = !CHOOSES_LOUDSPEAKER;
    navigator.mediaDevices?.addEventListener("devicechange", () => this.list());
    this.list();
  }

  /** Shows the devices that there are; browsers name them once the microphone was allowed. */
  async list() {
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const { microphone, loudspeaker } = memory.choices();
    fill(this.#microphone, devices, "audioinput", microphone);
    fill(this.#loudspeaker, devices, "audiooutput", loudspeaker);
  }
}

/**
 * @param {HTMLSelectElement} select
 * @param {MediaDeviceInfo[]} devices
 * @param {MediaDeviceKind} kind
 * @param {string} chosen
 */
function fill(select, devices, kind, chosen) {
  const named = devices.filter((device) => device.kind === kind && device.label);
  const real = named.filter(({ deviceId }) => deviceId !== "default");
  const options = real.map(({ label, deviceId }) => new Option(label, deviceId));
  select.replaceChildren(new Option("Default", ""), ...options);
  select.value = chosen;
  // It was unplugged.
  if (select.selectedIndex < 0) select.value = "";
}
