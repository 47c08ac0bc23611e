-- claim: checks pass, limit and stock of each claim and holds the seats, in the order of the batch.
--
-- A booking that holds seats already is answered as held. A pass without a record, or newer than the record, is taken
-- at its word (the store lost the admission), and the visitor's older place is taken out of the line with it.
--
-- KEYS
--   1 event
--   2 line
--   3 passes
--   4 active
--   5 ended
--   6 zones
--   7 holds
--   8 due
--   9 buyers
--   10 feed
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 hold_ttl: microseconds after which the sweeper asks for the hold
--   3.. booking, visitor, number ("" for no pass), admitted_at, expires_at, zone, quantity
-- REPLY
--   0, then one number a claim: 1 held, 2 pass busy, 3 pass used, 4 pass expired, 5 pass void, 6 too few seats,
--   7 over the visitor's limit, 8 unknown zone
-- ERRORS
--   -1 the event is not known
--   -2 a claim that is not whole

local HELD, BUSY, USED, EXPIRED, VOID, SEATS, LIMIT, NO_ZONE = 1, 2, 3, 4, 5, 6, 7, 8
local event = load_event(KEYS[1])
if not event then return { UNKNOWN_EVENT } end
if (#ARGV - 2) % 7 ~= 0 then return { BAD_ARGUMENTS } end
if #ARGV == 2 then return { 0 } end

local now, reply = clock(ARGV[1]), { 0 }
local due_at = whole(now + tonumber(ARGV[2]))

local claims = (#ARGV - 2) / 7
local function look(command, key, i, read) return lookup(command, key, column(ARGV, 2 + i, 7, claims), read) end
local held = look('HMGET', KEYS[7], 1, tostring)
local places = look('ZMSCORE', KEYS[2], 2, tonumber)
local passes = look('HMGET', KEYS[3], 2, read_pass)
local bought = look('HMGET', KEYS[9], 2, function(text) return tonumber(string.match(text, '^%d+')) end)
local zones = look('HMGET', KEYS[6], 6, read_zone)
local slots = look('ZMSCORE', KEYS[4], 2, tonumber)

local STATES = { u = USED, v = VOID }
local function refuse(visitor, number, expires)
  if number < event.floor then return VOID end
  local pass, same = passes[visitor], nil
  if pass and pass.number == number then same = pass end
  if same and STATES[same.state] then return STATES[same.state] end
  if (same and same.expires or expires) <= now or (same and not slots[visitor]) then return EXPIRED end
  if same and same.state == 'b' then return BUSY end
  if (pass and pass.number > number) or (places[visitor] or 0) > number then return VOID end
end

local changed, records, holds, dues = {}, {}, {}, {}
for at = 3, #ARGV, 7 do
  local booking, visitor, number, admitted, expires, name, quantity = unpack(ARGV, at, at + 6)
  local zone, pass, code = zones[name], passes[visitor], HELD
  quantity, expires = tonumber(quantity), tonumber(expires)
  local refusal = not held[booking] and number ~= '' and refuse(visitor, tonumber(number), expires)
  if held[booking] then code = HELD
  elseif refusal then code = refusal
  elseif event.max_per_user > 0 and (bought[visitor] or 0) + quantity > event.max_per_user then code = LIMIT
  elseif not zone then code = NO_ZONE
  elseif available(zone) < quantity then code = SEATS
  else
    if number ~= '' then
      if not pass or pass.number ~= tonumber(number) then
        pass = { number = tonumber(number), admitted = tonumber(admitted), expires = expires }
        if redis.call('ZREM', KEYS[2], visitor) == 1 then tell(KEYS[10], '-' .. whole(places[visitor])) end
        passes[visitor], slots[visitor], places[visitor] = pass, expires, nil
        redis.call('ZADD', KEYS[4], whole(expires), visitor)
        redis.call('ZREM', KEYS[5], visitor)
      end
      pass.state, pass.booking = 'b', booking
      records[#records + 1], records[#records + 2] = visitor, pass_text(pass)
    end
    zone.held, changed[name], held[booking] = zone.held + quantity, zone, true
    local hold = string.format('%s %s %s %.0f %s', visitor, number ~= '' and number or '-', name, quantity, due_at)
    holds[#holds + 1], holds[#holds + 2] = booking, hold
    dues[#dues + 1], dues[#dues + 2] = due_at, booking
  end
  reply[#reply + 1] = code
end
put('HSET', KEYS[3], records)
put('HSET', KEYS[7], holds)
put('ZADD', KEYS[8], dues)
for name, zone in pairs(changed) do redis.call('HSET', KEYS[6], name, zone_text(zone)) end
return reply
