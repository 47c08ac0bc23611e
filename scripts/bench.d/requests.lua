-- What wrk sends, the same to the bare server and to the service. The environment says what that is:
--   BENCH_METHOD, BENCH_BODY   the request
--   BENCH_HEADER               a header that changes from request to request: X-Queue-Ticket or X-Queue-Pass
--   BENCH_LINES                its values, a line each. With BENCH_KEY there is one file a thread, "lines.0", "lines.1" …
--   BENCH_KEY                  what idempotency keys begin with. Each line is then used once
--   BENCH_AGAIN                set where the lines may be used again even so: by the bare server
-- Answers are not looked at here, for that would slow the client down: rounds.py asks the service what it answered.

local body, header, lines = os.getenv('BENCH_BODY'), os.getenv('BENCH_HEADER'), os.getenv('BENCH_LINES')
local key, again = os.getenv('BENCH_KEY'), os.getenv('BENCH_AGAIN')

wrk.method = os.getenv('BENCH_METHOD')
if body then
  wrk.body = body
  wrk.headers['Content-Type'] = 'application/json'
end

local threads = {}
function setup(thread)
  thread:set('id', #threads)
  threads[#threads + 1] = thread
end

-- Requests with tickets are made beforehand and sent round and round; each thread begins elsewhere.
local function tickets()
  local requests, at = {}, 0
  function init()
    for line in io.lines(lines) do
      wrk.headers[header] = line
      requests[#requests + 1] = wrk.format()
    end
    at = math.floor(#requests / 2) * id
  end
  function request()
    at = at % #requests + 1
    return requests[at]
  end
end

-- A pass and a key are new each time.
local function passes()
  local before, between, after, file
  local sent = 0
  function init()
    wrk.headers[header], wrk.headers['X-Idempotency-Key'] = '<pass>', '<key>'
    local text = wrk.format()
    local order = string.find(text, '<pass>', 1, true) < string.find(text, '<key>', 1, true)
    before, between, after = string.match(text, order and '^(.-)<pass>(.-)<key>(.*)$' or '^(.-)<key>(.-)<pass>(.*)$')
    swapped = not order
    key = key .. '-' .. id .. '-'
    file = assert(io.open(lines .. '.' .. id))
  end
  function request()
    local pass = file:read('*l')
    if not pass then
      if not again then ran_out = true end
      file:seek('set')
      pass = file:read('*l')
    end
    sent = sent + 1
    local one, two = pass, key .. sent
    if swapped then one, two = two, one end
    return before .. one .. between .. two .. after
  end
end

if header then
  if key then passes() else tickets() end
end

function done(summary, latency)
  local dry = 'false'
  for _, thread in ipairs(threads) do
    if thread:get('ran_out') then dry = 'true' end
  end
  local errors = summary.errors
  print(string.format(
    'RESULT {"requests":%d,"seconds":%.6f,"p50_ms":%.3f,"p99_ms":%.3f,"failed":%d,"refused":%d,"ran_out":%s}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.timeout, errors.status, dry))
end
