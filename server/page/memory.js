/** What the browser remembers: choices for good, the key and the call for as long as the tab. */

const KEY = "mimo-live.key";
const CALL = "mimo-live.call";
const CHOICES = "mimo-live.choices";

/**
 * @typedef {{microphone: string, loudspeaker: string, pushToTalk: boolean}} Choices
 *
 * @typedef {object} Call What another page needs to go on with a call.
 * @property {import("./connection.js").Resumption} resumption
 * @property {import("./log.js").Caption[]} captions
 * @property {boolean} hasMicrophone
 */

/** @returns {Choices} */
export function choices() {
  const none = { microphone: "", loudspeaker: "", pushToTalk: false };
  return { ...none, ...read("localStorage", CHOICES) };
}

/** @param {Partial<Choices>} changed */
export function choose(changed) {
  write("localStorage", CHOICES, { ...choices(), ...changed });
}

/**
 * The key of the API. One in the address, `#key=…`, is kept and taken out of sight.
 *
 * @param {"sessionStorage" | "localStorage"} store
 * @returns {string} "" when there is none.
 */
export function key(store) {
  const given = new URLSearchParams(location.hash.slice(1)).get("key")?.trim();
  if (given) {
    keepKey(store, given);
    history.replaceState(null, "", location.pathname + location.search);
  }
  return read(store, KEY) ?? given ?? "";
}

/**
 * @param {"sessionStorage" | "localStorage"} store
 * @param {string} given
 */
export function keepKey(store, given) {
  write(store, KEY, given);
}

/** @param {Call} call For the page that is loaded next. */
export function keepCall(call) {
  write("sessionStorage", CALL, call);
}

/**
 * The call that the page before this one was in; given once, because its token works once.
 *
 * @returns {Call | undefined}
 */
export function takeCall() {
  const call = read("sessionStorage", CALL);
  write("sessionStorage", CALL, undefined);
  return call;
}

/**
 * A browser may forbid to remember anything.
 *
 * @param {"sessionStorage" | "localStorage"} store
 * @param {string} name
 */
function read(store, name) {
  try {
    return JSON.parse(globalThis[store].getItem(name) ?? "null") ?? undefined;
  } catch {
    return undefined;
  }
}

/**
 * @param {"sessionStorage" | "localStorage"} store
 * @param {string} name
 * @param {unknown} value
 */
function write(store, name, value) {
  try {
    if (value === undefined) globalThis[store].removeItem(name);
    else globalThis[store].setItem(name, JSON.stringify(value));
  } catch {
    // Then this page has to do.
  }
}
