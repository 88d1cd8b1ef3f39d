with changed as (
    select * from {{ ref('int_session_events_changed') }}
),

sessions as (
    select * from {{ ref('fct_sessions') }}
),

events as (
    select * from {{ ref('fct_session_events') }}
    where event_type = 'purchase'
),

purchases as (
    select * from {{ ref('stg_purchases') }}
    where transaction_id is not null
),

clients as (
    select
        shop,
        client_id,
        min(event_time) as changed_since
    from changed
    where client_id is not null
    group by shop, client_id
),

-- The first of the client's other sessions may have been the very first, or may be it now.
first_of_others as (
    select
        sessions.shop,
        sessions.session_date,
        sessions.started_at >= clients.changed_since as may_have_changed
    from sessions
    inner join clients
        on sessions.shop = clients.shop
        and sessions.client_id = clients.client_id
    where sessions.session_key not in (select session_key from changed)
    qualify row_number() over (
        partition by sessions.shop, sessions.client_id order by sessions.started_at, sessions.session_key
    ) = 1
),

orders as (
    select distinct
        purchases.shop,
        purchases.transaction_id
    from purchases
    inner join changed
        on purchases.shop = changed.shop
        and purchases.event_id = changed.event_id
),

days as (
    -- An event of a session that is gone is in another one now: its day is among these.
    select shop, cast(event_time as date) as day
    from changed
    union
    select shop, session_date as day
    from first_of_others
    where may_have_changed
    union
    -- An order belongs to the session that sent it first: a late one takes it from another.
    select sessions.shop, sessions.session_date as day
    from orders
    inner join purchases
        on orders.shop = purchases.shop
        and orders.transaction_id = purchases.transaction_id
    inner join events
        on purchases.shop = events.shop
        and purchases.event_id = events.event_id
    inner join sessions on events.session_key = sessions.session_key
)

select * from days
