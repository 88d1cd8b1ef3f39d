with built as (
    select * from {{ ref('int_loads_built') }}
),

events as (
    select * from {{ ref('stg_events') }}
    where load_id not in (select load_id from built)
),

reopened as (
    {{ sessions_reopened('events', ref('fct_session_events')) }}
),

whole_sessions as (
    {{ events_reopened('events', ref('fct_session_events'), 'reopened') }}
),

deduplicated as (
    {{ deduplicated('whole_sessions') }}
),

shared as (
    {{ shared_session_ids('whole_sessions') }}
),

sessionized as (
    {{ sessionized('deduplicated', 'shared') }}
),

sessions as (
    select
        session_key,
        shop,
        min(session_id) as session_id,
        min(client_id) as client_id,
        min(event_time) as started_at,
        max(event_time) as ended_at,
        count(*) as event_count,
        count(case when event_type = 'add' then 1 end) as add_count,
        count(case when {{ is_buy() }} then 1 end) > 0 as is_purchase
    from sessionized
    group by session_key, shop
)

select * from sessions
