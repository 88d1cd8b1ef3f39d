{{ config(materialized='view') }}

with events as (
    select * from {{ ref('fct_session_events') }}
    where event_type = 'purchase'
),

purchases as (
    select * from {{ ref('stg_purchases') }}
),

lines as (
    {{ purchase_lines('events', 'purchases') }}
)

select
    event_id,
    shop,
    session_key,
    client_id,
    event_time,
    product_id,
    price,
    quantity,
    transaction_id
from lines
