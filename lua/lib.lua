-- lib: what the scripts share about an event and its line. Both libs stand in front of each script and touch no key but
-- those they are handed.
-- Numbers are doubles here: whole up to 2^53. Lua's own tostring() keeps 14 digits only, so whatever is stored is
-- formatted by whole() (or '%.17g' for the bucket's fraction of a microsecond).
local UNKNOWN_EVENT, BAD_ARGUMENTS = -1, -2
-- The time in microseconds: the caller's, or the store's own when the caller gives none.
local function clock(given)
  if given ~= '' then return tonumber(given) end
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local function whole(number) return string.format('%.0f', number) end
-- unsure: no block was granted yet that is new to everybody. Numbers below lost_to were handed out by another store, or
-- may have been. Nobody is let in while unsure, nor before resume_at. run: the server's run that all this is from.
-- looked_at: when a release last asked for tokens.
-- seen_at: when it was last told who was seen (0: never), and seen_since: without a gap since then.
local FIELDS = { 'version', 'floor', 'rate', 'max_active', 'pass_ttl', 'max_queue', 'max_per_user', 'opens_at', 'next',
  'end', 'spare', 'spare_end', 'spent_until', 'admitted', 'left', 'unsure', 'lost_to', 'resume_at', 'presence',
  'seen_at', 'seen_since', 'looked_at', 'run', 'state' }

-- The event's hash as a table; nil when the event is not known.
local function load_event(key)
  local values = redis.call('HMGET', key, unpack(FIELDS))
  if not values[1] then return nil end
  local event = {}
  for i, field in ipairs(FIELDS) do event[field] = tonumber(values[i]) end
  event.run, event.state = values[#FIELDS - 1], values[#FIELDS]
  return event
end

-- The state in force: an open queue is a lobby before opens_at, and a lobby opens by itself then.
local function state_at(event, now)
  local state, opens_at = event.state, event.opens_at
  if opens_at and (state == 'open' or state == 'lobby') then
    if now < opens_at then return 'lobby' else return 'open' end
  end
  return state
end

local function numbers_left(event) return event['end'] - event.next + event.spare_end - event.spare end

-- No number below it is free: it was granted, proved by a ticket, or is void.
local function numbers_past(event) return math.max(1, event['end'], event.spare_end, event.floor) end

-- Puts the spare block in the place of an empty one, without the numbers below the floor.
local function promote(event, floor)
  if event.next >= event['end'] and event.spare_end > 0 then
    event.next = math.min(math.max(event.spare, floor), event.spare_end)
    event['end'], event.spare, event.spare_end = event.spare_end, 0, 0
  end
end

local function save_numbers(key, event)
  redis.call('HSET', key, 'next', whole(event.next), 'end', whole(event['end']), 'spare', whole(event.spare),
    'spare_end', whole(event.spare_end))
end

-- The store is older than the number before `past`: it gives up what numbers it has, and all below count as lost.
local function abandon(key, event, past)
  event.next, event.spare, event.spare_end, event.unsure = math.max(event.next, past), 0, 0, 1
  event['end'], event.lost_to = event.next, event.next
  save_numbers(key, event)
  event.seen_at = 0
  redis.call('HSET', key, 'unsure', '1', 'lost_to', whole(event.lost_to), 'seen_at', '0')
end

-- The event, for a change. A server that was started again, or took over from another, may have lost what came last.
local function load_trusted(key, run)
  local event = load_event(key)
  if event and event.run ~= run then
    abandon(key, event, math.max(event['end'], event.spare_end))
    redis.call('HSET', key, 'run', run)
  end
  return event
end

-- When the holder of a number joined: the time of the last mark at or before it.
local function joined_at(joins, number)
  local mark = redis.call('ZREVRANGEBYSCORE', joins, whole(number), '-inf', 'LIMIT', 0, 1)[1]
  return mark and tonumber(string.match(mark, ':(.+)$')) or 0
end

-- Adds a step to the feed: "+first-last" joined, "-number" is out, "^number" all up to it are out; separated by spaces.
local function tell(feed, changes) redis.call('XADD', feed, 'MAXLEN', '~', 8192, '*', 'c', changes) end

-- Appends the numbers of counters to the reply.
local function put_counters(reply, event, line, parked, active, now)
  local code = ({ lobby = 1, open = 2, paused = 3, closed = 4 })[state_at(event, now)]
  local waiting, out = redis.call('ZCARD', line), redis.call('ZCOUNT', active, '(' .. whole(now), '+inf')
  local away, left, past = redis.call('ZCARD', parked), numbers_left(event), numbers_past(event)
  local resumes = event.resume_at or 0
  local values = { code, waiting, out, event.admitted, event.left, away, event.version, left, past, resumes, now }
  for _, value in ipairs(values) do reply[#reply + 1] = value end
  return reply
end
