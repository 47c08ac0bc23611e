// What the load scripts share: where the service is, what there is to book, who the visitors are, and the calls.

import exec from 'k6/execution';
import http from 'k6/http';
import { check, sleep } from 'k6';
import { SharedArray } from 'k6/data';
import { Counter, Rate, Trend } from 'k6/metrics';

const BASES = (__ENV.BASE_URLS || 'http://127.0.0.1:8080').split(',');

function read(path) {
  try {
    return JSON.parse(open(path));
  } catch (_) {
    return null;
  }
}

// Written by `usher seed --out k6/data/catalogue.json`.
const catalogue = new SharedArray('catalogue', () => {
  const found = read(__ENV.CATALOGUE || './data/catalogue.json');
  if (!found) throw new Error('no catalogue: run `usher seed --out k6/data/catalogue.json`, or name one in CATALOGUE');
  return found.events;
});

// Written by `usher token --count 10000 --out k6/data/tokens.json`. Without it the visitors are anonymous.
const tokens = new SharedArray('tokens', () => read(__ENV.TOKENS || './data/tokens.json') || []);

export const timeInLine = new Trend('usher_time_in_line', true);
export const passes = new Counter('usher_passes');
export const reserved = new Counter('usher_reserved');
export const soldOut = new Counter('usher_sold_out');
export const serverErrors = new Rate('usher_server_errors');
export const reserveGood = new Rate('usher_reserve_good');

// Spreads visitors over the instances, so that joins, polls and reserves of one visitor meet different ones.
let turn = 0;
export function api(path) {
  turn += 1;
  return `${BASES[(__VU + turn) % BASES.length]}/api/v1${path}`;
}

// One event, show and zone for this iteration; all of them are used evenly.
export function pick() {
  const n = __VU * 7919 + __ITER;
  const event = catalogue[__ENV.EVENT ? Number(__ENV.EVENT) : n % catalogue.length];
  const show = event.shows[Math.floor(n / catalogue.length) % event.shows.length];
  const zone = show.zones[Math.floor(n / 11) % show.zones.length];
  return { event: event.id, show: show.id, zone: zone.id, price: zone.price };
}

export function eventIds() {
  return catalogue.map((event) => event.id);
}

// The headers of this iteration's visitor: every iteration of a run is another one, as long as there are tokens.
export function visitor() {
  const headers = { 'Content-Type': 'application/json' };
  if (tokens.length > 0) {
    headers.Authorization = `Bearer ${tokens[exec.scenario.iterationInTest % tokens.length].token}`;
  }
  return headers;
}

export function call(method, path, body, headers, name) {
  const answer = http.request(method, api(path), body === null ? null : JSON.stringify(body), { headers, tags: { name } });
  const failed = answer.status === 0 || answer.status >= 500;
  serverErrors.add(failed);
  if (failed) console.error(`${name}: ${answer.status} ${answer.error} ${answer.body}`);
  return answer;
}

// Forgets cookies, so that each iteration is a visitor of its own.
export function newBrowser() {
  const jar = http.cookieJar();
  for (const base of BASES) jar.clear(base);
}

// Joins and polls, as often as the service asks for, until the pass is there. Gives it with the ticket, or null.
export function standInLine(event, headers, mostSeconds) {
  const started = Date.now();
  const joined = call('POST', '/queue/join', { event_id: event }, headers, 'join');
  if (!check(joined, { 'joined': (r) => r.status === 201 || r.status === 200 })) return null;
  let seen = joined.json();
  const ticket = seen.token;
  const polling = Object.assign({ 'X-Queue-Ticket': ticket }, headers);
  while (!seen.queue_pass) {
    if (Date.now() - started > mostSeconds * 1000) return null;
    sleep(seen.poll_after_seconds);
    const poll = call('GET', `/queue/position/${event}`, null, polling, 'poll');
    if (!check(poll, { 'polled': (r) => r.status === 200 })) return null;
    seen = poll.json();
  }
  timeInLine.add(Date.now() - started);
  passes.add(1);
  return { ticket, pass: seen.queue_pass };
}
