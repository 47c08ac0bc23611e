// A crowd that skips the line: everybody is turned away fast, and no seat is touched.
//
//   k6 run k6/direct-reserve.js

import http from 'k6/http';
import { check } from 'k6';
import { api, call, eventIds, newBrowser, pick, visitor } from './lib.js';

export const options = {
  scenarios: {
    crowd: { executor: 'constant-vus', vus: Number(__ENV.VUS || 50), duration: `${__ENV.SECONDS || 10}s` },
  },
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  thresholds: {
    checks: ['rate==1'],
    usher_server_errors: ['rate==0'],
    'http_req_duration{name:direct}': ['p(95)<250'],
  },
};

// How many seats are left, zone by zone over all events, as one text.
function seats() {
  const shows = eventIds().flatMap((id) => http.get(api(`/events/${id}/availability`)).json().shows);
  return shows.flatMap((show) => show.zones.map((zone) => `${zone.id}: ${zone.available}`)).join('\n');
}

export function setup() {
  return seats();
}

export default function () {
  newBrowser();
  const want = pick();
  const headers = Object.assign({ 'X-Idempotency-Key': `direct-${__VU}-${__ITER}` }, visitor());
  // Every third has a pass that somebody made up.
  const forged = __ITER % 3 === 0;
  if (forged) headers['X-Queue-Pass'] = 'eyJhbGciOiJub25lIn0.eyJzdWIiOiJtZSJ9.';
  const body = { event_id: want.event, show_id: want.show, zone_id: want.zone, quantity: 1, unit_price: want.price };
  const answer = call('POST', '/bookings/reserve', body, headers, 'direct');
  check(answer, {
    'turned away': (r) => (forged
      ? r.status === 403 && r.json().code === 'INVALID_QUEUE_PASS'
      : r.status === 401 && r.json().code === 'QUEUE_PASS_REQUIRED'),
  });
}

export function teardown(before) {
  check(seats(), { 'no seat was touched': (after) => after === before });
}
