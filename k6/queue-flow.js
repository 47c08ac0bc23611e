// The whole way: join, poll as asked, pass, reserve, and every second visitor confirms.
//
//   k6 run -e SCENARIO=smoke|ramp|sustained|spike k6/queue-flow.js

import { check } from 'k6';
import { call, newBrowser, pick, reserveGood, reserved, soldOut, standInLine, visitor } from './lib.js';

const seconds = (fallback) => `${__ENV.SECONDS || fallback}s`;
const rate = (fallback) => Number(__ENV.RATE || fallback);
const vus = Number(__ENV.VUS || 1500);

const SCENARIOS = {
  smoke: { executor: 'constant-vus', vus: 5, duration: seconds(10) },
  ramp: {
    executor: 'ramping-arrival-rate', startRate: 1, timeUnit: '1s', preAllocatedVUs: vus, maxVUs: vus,
    stages: [{ target: rate(200), duration: seconds(30) }, { target: 0, duration: '10s' }],
  },
  sustained: {
    executor: 'constant-arrival-rate', rate: rate(150), timeUnit: '1s', duration: seconds(40),
    preAllocatedVUs: vus, maxVUs: vus,
  },
  spike: {
    executor: 'ramping-arrival-rate', startRate: 10, timeUnit: '1s', preAllocatedVUs: vus, maxVUs: vus,
    stages: [
      { target: 10, duration: '5s' }, { target: rate(300), duration: '1s' },
      { target: rate(300), duration: seconds(5) }, { target: 10, duration: '1s' }, { target: 10, duration: '10s' },
    ],
  },
};

const name = __ENV.SCENARIO || 'smoke';
if (!SCENARIOS[name]) throw new Error(`SCENARIO is one of ${Object.keys(SCENARIOS).join(', ')}`);

export const options = {
  scenarios: { [name]: Object.assign({ gracefulStop: '60s' }, SCENARIOS[name]) },
  summaryTrendStats: ['avg', 'p(50)', 'p(95)', 'p(99)', 'max'],
  thresholds: {
    checks: ['rate>0.99'],
    usher_server_errors: ['rate==0'],
    usher_reserve_good: ['rate>0.99'],
    dropped_iterations: ['count==0'],
    'http_req_duration{name:join}': ['p(95)<500'],
    'http_req_duration{name:poll}': ['p(95)<500'],
    'http_req_duration{name:reserve}': ['p(95)<1000'],
  },
};

export default function () {
  newBrowser();
  const want = pick();
  const headers = visitor();
  const admitted = standInLine(want.event, headers, 120);
  if (!check(admitted, { 'let in': (a) => a !== null })) return;

  const body = { event_id: want.event, show_id: want.show, zone_id: want.zone, quantity: 1 + (__ITER % 2), unit_price: want.price };
  const key = `${__VU}-${__ITER}-${Date.now()}`;
  const booking = Object.assign({ 'X-Queue-Pass': admitted.pass, 'X-Idempotency-Key': key }, headers);
  const answer = call('POST', '/bookings/reserve', body, booking, 'reserve');
  const none = answer.status === 409 && answer.json().code === 'INSUFFICIENT_SEATS';
  if (none) soldOut.add(1);
  const good = answer.status === 201;
  reserveGood.add(good || none);
  if (!check(answer, { 'reserved, or sold out': () => good || none }) || !good) return;
  reserved.add(1);

  if (__ITER % 10 === 0) {
    const again = call('POST', '/bookings/reserve', body, booking, 'retry');
    check(again, { 'a retry is the same answer': (r) => r.status === 201 && r.body === answer.body });
  }
  if (__ITER % 2 === 0) {
    const own = Object.assign({ 'X-Queue-Ticket': admitted.ticket }, headers);
    const confirmed = call('POST', `/bookings/${answer.json().booking_id}/confirm`, {}, own, 'confirm');
    check(confirmed, { 'confirmed': (r) => r.status === 200 });
  }
}
