-- observe: takes in what the ledger says. Holds that are not known and tallies that are not newer are passed over.
--
-- Tallies come before the holds that they settle, so that seats counted in both show as taken, never as free.
--
-- KEYS
--   1 event
--   2 passes
--   3 active
--   4 ended
--   5 zones
--   6 holds
--   7 due
--   8 buyers
-- ARGV
--   1 ended_ttl: microseconds for which an ended pass is remembered
--   2 zones: how many
--   3 buyers: how many
--   4 settled: how many
--   5.. zone, capacity, taken, version; then visitor, taken, version; then bookings: the settled ones, the undone ones
-- REPLY
--   0, then for each zone whose availability changed: zone, before (-1 = not known), after
-- ERRORS
--   -1 the event is not known
-- WHEN FULL
--   runs: what is in the ledger is true. A buyer takes less than the hold that is settled, a zone's text changes

if redis.call('EXISTS', KEYS[1]) == 0 then return { UNKNOWN_EVENT } end
local ended_ttl, reply, at = tonumber(ARGV[1]), { 0 }, 5
local zones, before, order, changed = {}, {}, {}, {}

-- The zone, with what was available before any change.
local function zone_of(name)
  local zone = zone_in(zones, KEYS[5], name)
  if not before[name] then order[#order + 1], before[name] = name, zone and available(zone) or -1 end
  return zone
end

for _ = 1, tonumber(ARGV[2]) do
  local name, capacity, taken, version = unpack(ARGV, at, at + 3)
  local zone = zone_of(name)
  if not zone or tonumber(version) > zone.version then
    zones[name] = { capacity = tonumber(capacity), taken = tonumber(taken), version = tonumber(version),
      held = zone and zone.held or 0 }
  end
  at = at + 4
end

local visitors, counted = column(ARGV, at, 3, tonumber(ARGV[3])), {}
local known = lookup('HMGET', KEYS[8], visitors, function(text) return tonumber(string.match(text, ' (.+)$')) end)
for _, visitor in ipairs(visitors) do
  local taken, version = ARGV[at + 1], ARGV[at + 2]
  if not known[visitor] or tonumber(version) > known[visitor] then
    counted[#counted + 1], counted[#counted + 2] = visitor, taken .. ' ' .. version
  end
  at = at + 3
end
put('HSET', KEYS[8], counted)

-- A pass that the booking has in use becomes used (u), or active again (a); if its slot is gone, that means expired.
local settled, bookings = tonumber(ARGV[4]), { unpack(ARGV, at) }
local holds = lookup('HMGET', KEYS[6], bookings, read_hold)
local holders, gone, records, free, ended = {}, {}, {}, {}, {}
for _, hold in pairs(holds) do holders[#holders + 1] = hold.visitor end
local passes = lookup('HMGET', KEYS[2], holders, read_pass)
for i, booking in ipairs(bookings) do
  local hold = holds[booking]
  local pass = hold and passes[hold.visitor]
  if hold then
    holds[booking], gone[#gone + 1] = nil, booking
    local zone = zone_of(hold.zone)
    if zone then zone.held = math.max(0, zone.held - hold.quantity) end
  end
  if pass and pass.number == hold.number and pass.booking == booking then
    pass.booking, pass.state = nil, i <= settled and 'u' or 'a'
    records[#records + 1], records[#records + 2] = hold.visitor, pass_text(pass)
    if i <= settled then
      free[#free + 1] = hold.visitor
      ended[#ended + 1], ended[#ended + 2] = whole(pass.expires + ended_ttl), hold.visitor
    end
  end
end
put('HDEL', KEYS[6], gone)
put('ZREM', KEYS[7], gone)
put('HSET', KEYS[2], records)
put('ZREM', KEYS[3], free)
put('ZADD', KEYS[4], ended)

for _, name in ipairs(order) do
  local after = zones[name] and available(zones[name]) or -1
  if zones[name] then changed[#changed + 1], changed[#changed + 2] = name, zone_text(zones[name]) end
  if after ~= before[name] then
    reply[#reply + 1], reply[#reply + 2], reply[#reply + 3] = name, before[name], after
  end
end
put('HSET', KEYS[5], changed)
return reply
