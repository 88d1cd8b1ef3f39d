{#- The column is 1, 2, 3, … without gaps or repeats within each group: smallest and largest value, sum and sum of
    squares are those of 1 to n. Counting distinct values would take several times as long. -#}
{% test contiguous_from_one(model, column_name, group_by) %}
select {{ group_by }}
from {{ model }}
group by {{ group_by }}
having min({{ column_name }}) != 1
    or max({{ column_name }}) != count(*)
    or sum({{ column_name }}) * 2 != count(*) * (count(*) + 1)
    or sum({{ column_name }} * {{ column_name }}) * 6 != count(*) * (count(*) + 1) * (2 * count(*) + 1)
{% endtest %}
