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
--   11 parked
-- ARGV
--   1 now: microseconds, or "" for the store's clock
--   2 hold_ttl: microseconds after which the sweeper asks for the hold
--   3.. booking, visitor, number ("" for no pass), admitted_at, expires_at, zone, quantity
-- REPLY
--   0, then one number a claim: 1 held, 2 pass busy, 3 pass used, 4 pass expired, 5 pass void, 6 too few seats,
--   7 over the visitor's limit, 8 unknown zone, 9 sold out, by the ledger's own count
-- ERRORS
--   -1 the event is not known
--   -2 a claim that is not whole
-- WHEN FULL
--   tries: a pass that cannot be used is told why, unless the batch has one that can

local HELD, BUSY, USED, EXPIRED, VOID, SEATS, LIMIT, NO_ZONE, SOLD = 1, 2, 3, 4, 5, 6, 7, 8, 9
local floor, max_per_user = unpack(redis.call('HMGET', KEYS[1], 'floor', 'max_per_user'))
if not floor then return { UNKNOWN_EVENT } end
if (#ARGV - 2) % 7 ~= 0 then return { BAD_ARGUMENTS } end
if #ARGV == 2 then return { 0 } end
floor, max_per_user = tonumber(floor), tonumber(max_per_user)

local now, reply, claims = clock(ARGV[1]), { 0 }, (#ARGV - 2) / 7
local due_at = whole(now + tonumber(ARGV[2]))

local bookings, visitors, numbers = column(ARGV, 3, 7, claims), column(ARGV, 4, 7, claims), column(ARGV, 5, 7, claims)
local held = lookup('HMGET', KEYS[7], bookings, tostring)
local passes = lookup('HMGET', KEYS[3], visitors, read_pass)
local function first_word(text) return tonumber(string.match(text, '^%d+')) end
local bought = max_per_user > 0 and lookup('HMGET', KEYS[9], visitors, first_word) or {}
local slots, places = lookup('ZMSCORE', KEYS[4], visitors, tonumber), lookup('ZMSCORE', KEYS[2], visitors, tonumber)
local parked = lookup('ZMSCORE', KEYS[11], visitors, tonumber)
local STATES = { u = USED, v = VOID }
local function refuse(visitor, number, expires)
  if number < floor then return VOID end
  local pass, same = passes[visitor], nil
  if pass and pass.number == number then same = pass end
  if same and STATES[same.state] then return STATES[same.state] end
  if (same and same.expires or expires) <= now or (same and not slots[visitor]) then return EXPIRED end
  if same and same.state == 'b' then return BUSY end
  if (pass and pass.number > number) or (places[visitor] or parked[visitor] or 0) > number then return VOID end
end

local zones, changed, records, holds, dues = {}, {}, {}, {}, {}
local leavers, gone, active, back = {}, {}, {}, {}
for i, booking in ipairs(bookings) do
  local at, visitor, number = 7 * i - 4, visitors[i], numbers[i]
  local admitted, expires, name, quantity = unpack(ARGV, at + 3, at + 6)
  local zone, code, seats = zone_in(zones, KEYS[6], name), HELD, tonumber(quantity)
  local refusal = not held[booking] and number ~= '' and refuse(visitor, tonumber(number), tonumber(expires))
  if held[booking] then code = HELD
  elseif refusal then code = refusal
  elseif max_per_user > 0 and (bought[visitor] or 0) + seats > max_per_user then code = LIMIT
  elseif not zone then code = NO_ZONE
  elseif zone.capacity - zone.taken < seats and passes[visitor] and passes[visitor].digits == number
    and redis.call('HEXISTS', KEYS[9], visitor) == 0 and was_never_lost(KEYS[1]) then code = SOLD
  elseif available(zone) < seats then code = SEATS
  else
    if number ~= '' then
      local pass = passes[visitor]
      if not pass or pass.digits ~= number then
        pass = new_pass(number, admitted, expires)
        if places[visitor] then leavers[#leavers + 1], gone[#gone + 1] = visitor, '-' .. whole(places[visitor]) end
        passes[visitor], slots[visitor], places[visitor], parked[visitor] = pass, pass.expires, nil, nil
        active[#active + 1], active[#active + 2], back[#back + 1] = expires, visitor, visitor
      end
      pass.state, pass.booking = 'b', booking
      records[#records + 1], records[#records + 2] = visitor, pass_text(pass)
    end
    zone.held, changed[name], held[booking] = zone.held + seats, zone, true
    holds[#holds + 1], holds[#holds + 2] = booking, hold_text(visitor, number, name, quantity, due_at)
    dues[#dues + 1], dues[#dues + 2] = due_at, booking
  end
  reply[#reply + 1] = code
end
put('ZREM', KEYS[2], leavers)
if #gone > 0 then tell(KEYS[10], table.concat(gone, ' ')) end
put('HSET', KEYS[3], records)
put('ZADD', KEYS[4], active)
put('ZREM', KEYS[5], back)
put('ZREM', KEYS[11], back)
put('HSET', KEYS[7], holds)
put('ZADD', KEYS[8], dues)
for name, zone in pairs(changed) do redis.call('HSET', KEYS[6], name, zone_text(zone)) end
return reply
