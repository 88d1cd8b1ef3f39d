{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
),

answers as (
    select * from {{ ref('stg_searches') }}
),

-- A click belongs to the search before it.
numbered as (
    select
        *,
        count(case when event_type = 'search' then 1 end) over (
            partition by session_key order by position rows between unbounded preceding and current row
        ) as search_number
    from events
    where event_type in ('search', 'click')
),

clicks as (
    select
        session_key,
        search_number,
        count(*) as click_count
    from numbered
    where event_type = 'click'
    group by session_key, search_number
),

searches as (
    select
        numbered.event_id,
        numbered.session_key,
        numbered.shop,
        numbered.client_id,
        numbered.position,
        numbered.event_time,
        numbered.query,
        coalesce(answers.result_count, 0) as result_count,
        coalesce(clicks.click_count, 0) as click_count
    from numbered
    left join answers
        on numbered.shop = answers.shop
        and numbered.event_id = answers.event_id
    left join clicks
        on numbered.session_key = clicks.session_key
        and numbered.search_number = clicks.search_number
    where numbered.event_type = 'search'
)

select * from searches
